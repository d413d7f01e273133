"""How fast a model reads and writes here: our engine, as its requests see it, and what the machine could do.

Every kind of work gives one figure from random ids, fresh ones in each round, so that nothing is remembered
that should not be. A Side is whoever does the work: ours here, another engine beside it (peer.py).
"""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from typing import Protocol, Self

import numpy as np

from puna import hardware, hub
from puna.engine.engine import Engine
from puna.engine.load import open_runner
from puna.engine.request import Event, Request, Sampling
from puna.kernels import llama
from puna.model.config import ModelConfig
from puna.model.names import shapes
from puna.quant.source import open_weights

WRITTEN, PROMPT = 32, 16  # tokens written, and of the prompt before them
AGAIN = 16  # new tokens after a known prompt
HELD = 2048  # tokens of context at which memory is looked at
Ids = list[int]


class Side(Protocol):
    """One engine with one model. Seconds, as whoever asks sees them."""

    name: str

    def first(self, ids: Ids, known: int = 0) -> float:
        """Until the first token after these ids, the first `known` of which were read just before."""
        ...

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        """One step that writes one token of each of these, after their prompts; the median of `count`."""
        ...


class Silent:
    """A vocabulary whose tokens have no text: to measure a model that has none."""

    stop_ids: frozenset[int] = frozenset()
    specials: Mapping[str, int] = {}

    def __init__(self, size: int):
        self.size = size

    def bytes_of(self, id: int) -> bytes:
        return b""

    def stream(self, special: bool = False) -> Self:
        return self

    def push(self, id: int) -> str:
        return ""

    def finish(self) -> str:
        return ""


class Ours:
    """Our engine, with room for `together` contexts of so many tokens."""

    name = "puna"

    def __init__(
        self, model: str, threads: int, context: int, together: int = 1, cache: llama.Cache = "bf16"
    ):
        weights = open_weights(hub.find(model))
        self.config = weights.config
        context = min(context, self.config.max_position_embeddings)
        runner = open_runner(weights, "auto", threads, context, cache)
        self.engine = Engine(
            runner, self.config, Silent(self.config.vocab_size), context=context, together=together
        )
        # of a model with an embedding of its own, a step reads but a row of it
        embedding = 0 if self.config.tie_word_embeddings else self.config.vocab_size * self.config.hidden_size
        stored = getattr(getattr(runner, "model", None), "bytes", None)
        self.bytes = stored and round(stored * (1 - embedding / self._weights()))

    def _weights(self) -> int:
        return sum(int(np.prod(shape)) for _, shape in shapes(self.config))

    def first(self, ids: Ids, known: int = 0) -> float:
        if known:
            self._times([ids[:known]], 1)
        return self._times([ids], 1)[0][0]

    def steps(self, prompts: Sequence[Ids], count: int) -> float:
        times = self._times(prompts, count + 1)
        begin, end = max(told[0] for told in times), min(told[-1] for told in times)  # while all write
        pairs = [pair for told in times for pair in pairwise(told)]
        inside = [b - a for a, b in pairs if begin <= a and b <= end]
        return statistics.median(inside or [b - a for a, b in pairs])  # tiny models are over before all begin

    def close(self) -> None:
        self.engine.close()

    def _times(self, prompts: Sequence[Ids], count: int) -> list[list[float]]:
        """Of each prompt: when its tokens came, in seconds since all were asked for."""
        begun, over = time.perf_counter(), threading.Semaphore(0)
        times: list[list[float]] = [[] for _ in prompts]
        for ids, told in zip(prompts, times, strict=True):

            def take(event: Event, told: list[float] = told) -> None:
                told.extend([time.perf_counter() - begun] * len(event.ids))
                if event.finish:
                    over.release()

            self.engine.begin(
                Request(ids=tuple(ids), sampling=Sampling(temperature=0), max_tokens=count), take
            )
        for _ in prompts:
            over.acquire()
        return times


@dataclass(frozen=True)
class Work:
    """One kind of work: its name, how many tokens it counts, and how long it takes a side."""

    name: str
    tokens: int
    seconds: Callable[[Side, Callable[[int], Ids]], float]  # given a source of fresh ids


def works(prefill: Sequence[int], together: Sequence[int], depth: Sequence[int]) -> list[Work]:
    """What is measured, in this order."""
    longest = max(prefill)
    name = f"{AGAIN} more after {longest} known"
    known = Work(name, AGAIN, lambda side, ids: side.first(ids(longest + AGAIN), longest))
    return [
        *(_reading(count) for count in prefill),
        _writing("write", 1, PROMPT),
        *(_writing(f"write {count} at once", count, PROMPT) for count in together),
        *(_writing(f"write after {held}", 1, held) for held in depth),
        known,
    ]


def _reading(count: int) -> Work:
    return Work(f"read {count}", count, lambda side, ids: side.first(ids(count)))


def _writing(name: str, together: int, held: int) -> Work:
    return Work(name, together, lambda side, ids: side.steps([ids(held) for _ in range(together)], WRITTEN))


def measure(side: Side, work: Work, words: int, turn: int) -> float:
    """Tokens a second. No two works or turns begin with the same ids: what is known is read faster."""
    dice = np.random.default_rng([turn, *work.name.encode()])
    return work.tokens / work.seconds(side, lambda count: dice.integers(0, words, count).tolist())


@dataclass(frozen=True)
class Limits:
    """What the machine can do now: bytes read of memory and products of bytes, each a second."""

    bandwidth: float
    products: float

    def share(self, ours: Ours, work: Work, rate: float) -> float | None:
        """How much of the nearer limit a rate is; None where none is known."""
        if not ours.bytes or work.name.startswith(str(AGAIN)):
            return None
        if work.name.startswith("read"):
            return rate * products_per_token(ours.config) / self.products
        return rate / work.tokens * ours.bytes / self.bandwidth  # the context is read too, and is not counted


def limits(threads: int) -> Limits | None:
    """None where there is no native extension to measure with."""
    if llama.works_here():
        return None
    native = llama.native()
    return Limits(native.bandwidth(threads), native.products(threads))


def products_per_token(config: ModelConfig) -> int:
    """Products and sums to read a token, attention not counted: two for each weight of the layers."""
    layers = (shape for name, shape in shapes(config) if ".layers." in name and len(shape) == 2)
    return 2 * sum(rows * columns for rows, columns in layers)


@dataclass(frozen=True)
class Opening:
    """What it takes to open a model, in a process of its own."""

    seconds: float  # to open it
    peak: int  # bytes at most, with HELD tokens of context read


def opening(side: Callable[[str, int, int], Side], model: str, threads: int) -> Opening:
    """Open the model in a new process and read HELD tokens with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_opened, side, model, threads).result()


def _opened(side: Callable[[str, int, int], Side], model: str, threads: int) -> Opening:
    begun = time.perf_counter()
    opened = side(model, threads, HELD + 1)
    seconds = time.perf_counter() - begun
    opened.first([1 + n % 100 for n in range(HELD)])
    return Opening(seconds, hardware.peak_memory())
