"""From a MODEL argument to something that answers: weights, tokenizer, template and engine, together."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from puna import hardware, hub, log
from puna.engine import native
from puna.engine.draft import Drafts, Lookup
from puna.engine.draft_model import LARGEST, ModelDrafts
from puna.engine.engine import Engine
from puna.engine.pages import cache_pages
from puna.engine.request import Sampling
from puna.engine.step import Runner
from puna.errors import HardwareError, PunaError, TokenizerError, need
from puna.kernels import llama
from puna.model.config import ModelConfig, parameters, read_json
from puna.model.lora import read_adapter
from puna.model.weights import Weights
from puna.quant.source import open_weights
from puna.tokenizer import formats
from puna.tokenizer.template import Template, template_for
from puna.tokenizer.tokenizer import Tokenizer

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
    model: str,
    *,
    dtype: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    adapters: Mapping[str, Path] | None = None,
    speculate: str = "auto",
    cache: llama.Cache = "bf16",
) -> Session:
    """Open a MODEL, with adapters from PEFT's folders by name. `threads`: None: every core we may use.

    `dtype` auto takes the weights as they are stored through the native step, where there is one and no GPU;
    f32, bf16 and f16 compute with those numbers in torch. `speculate`: who guesses what comes next: off,
    ngram, a smaller MODEL of the same vocabulary, or auto. `cache`: what the native step keeps keys and
    values in; int8 takes about half the memory of bf16.
    """
    place = hub.find(model)
    weights, threads = open_weights(place), threads or hardware.cores()
    found = {name: read_adapter(folder, weights.config) for name, folder in (adapters or {}).items()}
    longest = weights.config.max_position_embeddings if context is None else context
    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(_tokenizer, place.path, weights.config.vocab_size)
        runner = open_runner(weights, dtype, threads, longest, cache)
        tokenizer = reading.result()
    template = template_for(tokenizer)
    engine = Engine(runner, weights.config, tokenizer, context=context)
    with ExitStack() as undo:
        undo.callback(engine.close)  # its thread must not outlive a session that never was
        for name, adapter in found.items():
            engine.add_adapter(name, adapter)
        engine.drafts = open_drafts(speculate, engine, tokenizer, dtype, threads)
        undo.pop_all()
    name = model if model in hub.ALIASES else place.path.name
    return Session(name, weights.config, tokenizer, template, engine, recommended(place))


def open_runner(
    weights: Weights, dtype: str, threads: int, context: int, cache: llama.Cache = "bf16"
) -> Runner:
    """The fastest runner that can be had; a `runner` event tells which, and why it is not the native one."""
    caches = get_args(llama.Cache)
    need(cache in caches, f"cache {cache!r} is not one of {', '.join(caches)}")
    asked = f"dtype {dtype} was asked for" if dtype != "auto" else "there is a GPU" if _has_gpu() else None
    missing = None if asked else native.works_for(weights.config, cache)
    reason = asked or missing
    need(
        cache == "bf16" or not reason,
        f"a cache in {cache} needs the native step, and {reason}",
        "--cache bf16" if dtype == "auto" else "--dtype auto, or --cache bf16",
        HardwareError if dtype == "auto" else PunaError,
    )
    log.event("runner", chosen="torch" if reason else "native", reason=reason, slow=bool(missing))
    if reason:
        from puna.engine.dense import dense_runner  # brings torch, a second

        return dense_runner(weights, dtype, threads, context)
    free = hardware.available_memory()
    pages = cache_pages(context, native.bytes_per_page(weights.config, cache), free, native.PAGE)
    return native.NativeRunner(weights, pages, threads, cache=cache)


def open_drafts(
    speculate: str, engine: Engine, tokenizer: Tokenizer, dtype: str, threads: int
) -> Drafts | None:
    """Who guesses for an engine; auto: ngram with the native step, else nobody.

    There a row does not depend on what is read beside it, so guesses change no answer. In torch it does, in
    its last bits: of two tokens that are nearly as good, the other one may be written.
    """
    if speculate == "off" or (speculate == "auto" and not isinstance(engine.runner, native.NativeRunner)):
        return None
    if speculate in ("auto", "ngram"):
        return Lookup()
    place = hub.find(speculate)
    weights = open_weights(place)
    share = parameters(weights.config) / parameters(engine.config)
    need(
        share < LARGEST,
        f"--speculate {speculate}: {share:.0%} of the large model's size, it would gain nothing",
        "a smaller one, or --speculate ngram",
    )
    same = _tokenizer(place.path, weights.config.vocab_size).fingerprint() == tokenizer.fingerprint()
    need(
        same,
        f"--speculate {speculate}: its vocabulary is not that of the model it would guess for",
        "a smaller model of the same family, or --speculate ngram",
        TokenizerError,
    )
    context = min(engine.context, weights.config.max_position_embeddings)
    return ModelDrafts(open_runner(weights, dtype, threads, context), context, share)


def _has_gpu() -> bool:
    if not hardware.has_nvidia():
        return False
    import torch

    return torch.cuda.is_available()


def _tokenizer(path: Path, rows: int) -> Tokenizer:
    tokenizer = formats.load(path)
    need(
        tokenizer.size <= rows,
        f"{path}: {tokenizer.size:,} token ids, but {rows:,} embedding rows",
        f"puna look {path}",
        TokenizerError,
    )
    return tokenizer


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
