"""POST /v1/embeddings, the answering half: vectors of length 1, as numbers or as base64 of fp32."""

import base64
from typing import Any

import numpy as np

from puna.engine.request import Usage
from puna.serve.openai import EmbeddingBody
from puna.serve.replies import Json, check_finish
from puna.serve.served import Running


async def reply(body: EmbeddingBody, running: Running) -> Json:
    """All vectors, in the order of the inputs."""
    found: list[Json] = [{} for _ in running.requests]
    tokens = 0
    async for index, event in running.events():
        check_finish(event)
        assert event.embedding is not None
        vector = to_length_1(event.embedding[: body.dimensions])
        found[index] = {"object": "embedding", "index": index, "embedding": _written(vector, body)}
        tokens += (event.usage or Usage()).prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": found, "model": body.model, "usage": usage}


def to_length_1(vector: np.ndarray) -> np.ndarray:
    """The same direction (D,) in fp32; zeros stay zeros."""
    length = np.linalg.norm(vector.astype(np.float64))
    return (vector / (length or 1)).astype(np.float32)


def _written(vector: np.ndarray, body: EmbeddingBody) -> Any:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
