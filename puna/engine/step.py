"""The seam between the engine and what computes: one step reads rows of many sequences at once.

A sequence is a conversation as the runner sees it: ids at positions 0, 1, 2 .... What was read of it, its
keys and values, lies in pages of the runner's cache; which pages, the engine says (pages.py). TorchRunner
(runner.py) is the definition. A faster runner has the same methods, and a law holds it to this one.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from puna.model.lora import Adapter


@dataclass(frozen=True)
class Step:
    """What to read at once, and which rows are asked for what."""

    tokens: list[int]  # of all sequences, one after the other
    starts: list[int]  # (sequences + 1,): which rows are a sequence's
    held: list[int]  # (sequences,): positions that the cache holds of each before
    pages: list[list[int]]  # of each, with room for what is new: position p is in pages[p // page]
    wanted: list[int]  # rows whose logits are asked for, in order
    hidden: list[int] = field(default_factory=list)  # rows whose last hidden states are asked for, in order
    adapters: list[int] = field(default_factory=list)  # (sequences,): whose adapter, 0: none; empty: no one's


@dataclass(frozen=True)
class Outcome:
    """What a step gives, fp32 on the CPU, in new arrays each time."""

    logits: np.ndarray  # (wanted, V)
    hidden: np.ndarray  # (hidden, D): after the last norm, as the head reads them


class Runner(Protocol):
    """A model with a cache of `pages` pages of `page` positions each; only one thread calls it."""

    page: int
    pages: int
    size: int  # V, rows of the head

    def run(self, step: Step) -> Outcome:
        """Read the step's tokens into its pages."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Make one page hold the keys and values of another."""
        ...

    def put_adapter(self, number: int, adapter: Adapter) -> None:
        """Steps may name an adapter by this number, above 0, from now on."""
        ...

    def drop_adapter(self, number: int) -> None:
        """Forget an adapter."""
        ...
