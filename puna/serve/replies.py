"""What OpenAI's clients get: choices, log-probabilities, usage and errors in their shapes."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from puna.engine.request import Event, TokenScore, Usage
from puna.errors import RequestError
from puna.messages import Call, call_to_openai
from puna.serve.served import Text

Json = dict[str, Any]
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def failure(error: RequestError) -> Json:
    """An error as OpenAI writes it."""
    kind = TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    said = {"message": str(error), "type": kind, "param": error.param or None, "code": error.code or None}
    return {"error": said}


def check_finish(event: Event) -> None:
    """RequestError for an answer that did not end by itself."""
    if event.finish == "error":
        raise RequestError(event.problem, 500, "engine_error")
    if event.finish == "cancelled":
        raise RequestError("the answer was cancelled: the server is stopping", 503, "cancelled")


def usage_to_openai(usages: Sequence[Usage], choices: int, *, predicted: bool = False) -> Json:
    """What a call took; a prompt with several choices counts once. predicted: with what came of that."""
    prompt = sum(usage.prompt_tokens for usage in usages[::choices])
    written = sum(usage.completion_tokens for usage in usages)
    said = {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in usages[::choices])},
    }
    if predicted:
        accepted = sum(usage.accepted_tokens for usage in usages)
        rejected = sum(usage.guessed_tokens for usage in usages) - accepted
        counts = {"accepted_prediction_tokens": accepted, "rejected_prediction_tokens": rejected}
        said["completion_tokens_details"] = counts
    return said


class Envelope:
    """What every piece of one reply carries: its id, time and model."""

    def __init__(self, kind: str, prefix: str, model: str):
        identity = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
        self.fields: Json = {**identity, "model": model}

    def reply(self, choices: list[Json], usage: Json) -> Json:
        return {**self.fields, "choices": choices, "usage": usage}

    def chunk(self, choice: Json, with_usage: bool) -> Json:
        """One piece of a stream; where usage was asked for, all but the last say null."""
        said = {**self.fields, "choices": [choice]}
        return {**said, "usage": None} if with_usage else said

    def usage_chunk(self, usage: Json) -> Json:
        return {**self.fields, "choices": [], "usage": usage}


class Answer:
    """One choice as its events come."""

    def __init__(self, stop_ids: frozenset[int]):
        self.stop_ids = stop_ids
        self.ids: list[int] = []
        self.finish, self.usage = "", Usage()
        self.scores: list[TokenScore] = []
        self.prompt_scores: Sequence[TokenScore | None] = ()

    def add(self, event: Event) -> list[TokenScore]:
        """Take an event in; gives its scores, less the stop id's, which is not part of the text."""
        scores = [score for score in event.scores if score.id not in self.stop_ids]
        self.ids += event.ids
        self.scores += scores
        self.prompt_scores = event.prompt_scores or self.prompt_scores
        if event.finish:
            check_finish(event)
            self.finish, self.usage = event.finish, event.usage or Usage()
        return scores


def chat_scores(scores: Sequence[TokenScore], tokenizer: Text) -> Json:
    """Log-probabilities as the chat endpoint writes them."""
    return {"content": [_chat_score(score, tokenizer) for score in scores], "refusal": None}


def _chat_score(score: TokenScore, tokenizer: Text) -> Json:
    best = [_token(id, logprob, tokenizer) for id, logprob in score.best]
    return {**_token(score.id, score.logprob, tokenizer), "top_logprobs": best}


def _token(id: int, logprob: float, tokenizer: Text) -> Json:
    """`bytes` say what the text cannot for a token that is part of a character."""
    return {"token": tokenizer.decode([id]), "logprob": logprob, "bytes": list(tokenizer.bytes_of(id))}


class CompletionScores:
    """Log-probabilities as the completions endpoint writes them: lists, with offsets into the text."""

    def __init__(self, tokenizer: Text):
        self.tokenizer, self.offset = tokenizer, 0

    def prompt(self, ids: Sequence[int], scores: Sequence[TokenScore | None], silent: int) -> Json:
        """The prompt's own. The echoed text, where offsets point, lacks the first `silent` ids: our BOS."""
        said = self._empty()
        for index, (id, score) in enumerate(zip(ids, scores, strict=True)):
            self._add(said, id, score)
            self.offset += _characters(self.tokenizer.bytes_of(id)) if index >= silent else 0
        return said

    def written(self, scores: Sequence[TokenScore], event: Event) -> Json:
        """Those of one event, less the stop id's."""
        said, begun = self._empty(), self.offset
        for score, start in zip(scores, event.starts, strict=False):
            self.offset = begun + start
            self._add(said, score.id, score)
        self.offset = begun + len(event.text)
        return said

    def _empty(self) -> Json:
        return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}

    def _add(self, said: Json, id: int, score: TokenScore | None) -> None:
        said["tokens"].append(self.tokenizer.decode([id]))
        said["token_logprobs"].append(score and score.logprob)
        said["top_logprobs"].append(score and self._best(score))
        said["text_offset"].append(self.offset)

    def _best(self, score: TokenScore) -> dict[str, float]:
        """Best first, the chosen one always among them; of tokens with the same text the best speaks."""
        best: dict[str, float] = {}
        for id, logprob in (*score.best, (score.id, score.logprob)):
            best.setdefault(self.tokenizer.decode([id]), logprob)
        return best


def _characters(text: bytes) -> int:
    """How many characters begin in these bytes: those of UTF-8 that go on with one begin with the bits 10."""
    return sum(byte & 0xC0 != 0x80 for byte in text)


def joined(parts: Sequence[Json]) -> Json | None:
    """Several CompletionScores pieces as one; None where there are none."""
    return {key: [item for part in parts for item in part[key]] for key in parts[0]} if parts else None


def calls_to_openai(calls: Sequence[Call]) -> list[Json]:
    """Tool calls; those without an id get one, so that the tool's answer can name it."""
    return [{**call_to_openai(call), "id": call.id or f"call_{uuid.uuid4().hex[:24]}"} for call in calls]
