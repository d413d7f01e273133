"""From a MODEL argument to something that answers: weights, tokenizer, template and engine, together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from puna import hardware, hub
from puna.engine.engine import Engine
from puna.engine.request import Sampling
from puna.engine.runner import TorchRunner, cache_pages, page_bytes
from puna.errors import HardwareError, PunaError, TokenizerError, need
from puna.model import weights as model_weights
from puna.model.config import ModelConfig, parameters, read_json
from puna.quant.source import open_weights
from puna.tokenizer import formats
from puna.tokenizer.template import Template, template_for
from puna.tokenizer.tokenizer import Tokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
REFERENCE = Sampling(temperature=0.6, top_p=0.9)  # Meta's own defaults [llama-models generation.py]


@dataclass(frozen=True)
class Session:
    """An opened model. Close it to stop its engine."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    template: Template
    engine: Engine
    defaults: Sampling  # what the model's authors recommend

    def close(self) -> None:
        self.engine.close()


def open_chat(
    model: str, *, dtype: str = "auto", threads: int | None = None, context: int | None = None
) -> Session:
    """Open a MODEL. `dtype` f32, bf16, f16 or auto; `threads` of torch, None: every core we may use."""
    place = hub.find(model)
    torch.set_num_threads(threads or hardware.cores())
    weights = open_weights(place)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = choose_dtype(dtype, weights.config, device)
    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(_tokenizer, place.path, weights.config.vocab_size)
        llama = model_weights.load(weights, chosen, device, threads or hardware.cores())
        tokenizer = reading.result()
    template = template_for(tokenizer)
    longest = weights.config.max_position_embeddings if context is None else context
    pages = cache_pages(longest, page_bytes(weights.config, chosen.itemsize), free_memory(device))
    engine = Engine(TorchRunner(llama, pages), weights.config, tokenizer, context=context)
    name = model if model in hub.ALIASES else place.path.name
    return Session(name, weights.config, tokenizer, template, engine, recommended(place))


def _tokenizer(path: Path, rows: int) -> Tokenizer:
    tokenizer = formats.load(path)
    need(
        tokenizer.size <= rows,
        f"{path}: {tokenizer.size:,} token ids, but {rows:,} embedding rows",
        f"puna look {path}",
        TokenizerError,
    )
    return tokenizer


def choose_dtype(dtype: str, config: ModelConfig, device: str) -> torch.dtype:
    """fp32 on a CPU that holds it twice over (exact, and no slower than bf16), else bf16."""
    need(dtype == "auto" or dtype in DTYPES, f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    free = free_memory(device)
    count = parameters(config)
    if dtype == "auto":
        dtype = "f32" if device == "cpu" and (not free or 8 * count <= free) else "bf16"
    size = count * DTYPES[dtype].itemsize
    gib = f"{size / 2**30:.1f} GiB as {dtype}, and {free / 2**30:.1f} GiB"
    need(
        not free or size <= free,
        f"the model takes {gib} of {device} memory are free",
        "a smaller model" if dtype != "f32" else "--dtype bf16",
        HardwareError,
    )
    return DTYPES[dtype]


def free_memory(device: str) -> int:
    """Bytes of a device that can be taken now. 0 where unknown."""
    return torch.cuda.mem_get_info()[0] if device == "cuda" else hardware.available_memory()


def recommended(place: hub.Place) -> Sampling:
    """The sampling settings of generation_config.json beside the model, else Meta's reference ones."""
    path = place.path / "generation_config.json"
    if not path.is_file():
        return REFERENCE
    values: Any = read_json(path)
    need(isinstance(values, dict), f"{path}: not a JSON object", error=PunaError)
    if values.get("do_sample") is False:
        return Sampling(temperature=0.0)
    known = {
        key: values[key]
        for key in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        if key in values
    }
    return Sampling.read({**REFERENCE.model_dump(exclude={"logit_bias"}), **known}, str(path))
