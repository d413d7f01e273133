"""Batches computed, not remembered: which tokens sample n reads follows from a seed and n alone.

A set of shards is an endless row: epoch after epoch, its units (stretches of `unit` tokens) in an order that
the epoch's number decides. A stage of training takes sequences from several such rows by weight. So a run
resumes from two integers, on any number of ranks, and no token is read twice or left out in between.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from puna.data.chance import mixed
from puna.data.shard_set import ShardSet
from puna.errors import ConfigError, DataError, need

ROUNDS = 4  # of the Feistel network that puts units in order
BLOCK = 1024  # samples among which every set has its share, to one sample


@dataclass(frozen=True)
class Batch:
    """What a step reads. All (B, T)."""

    tokens: np.ndarray  # int64
    targets: np.ndarray  # int64: the token that follows
    positions: np.ndarray  # int64: place in its document, or since the sequence began
    documents: np.ndarray  # int64: equal where tokens share a document; they see no other
    weights: np.ndarray  # float32: 0 where the token that follows is another document's


class Row:
    """The endless row of one set of shards. Its last units, a share `held_out`, are only read to judge."""

    def __init__(self, shards: ShardSet, unit: int, seed: int, held_out: float = 0.0):
        self.shards, self.unit, self.seed = shards, unit, seed
        units = (shards.size - 1) // unit  # each also reads the first token of what comes after it
        self.held = math.ceil(units * held_out)
        self.units = units - self.held
        fix = "a shorter sequence, or more data"
        problem = f"{shards.folder}: {shards.size:,} tokens are too few for units of {unit:,}"
        need(self.units > 0, problem, fix, DataError)

    def place(self, start: int) -> int:
        """Where in the shards the tokens of the row from `start` on stand, to the end of their unit."""
        number, inside = divmod(start, self.unit)
        epoch, turn = divmod(number, self.units)
        return shuffled(turn, self.units, self.seed, epoch) * self.unit + inside

    def sequence(self, start: int, length: int) -> tuple[np.ndarray, ...]:
        """tokens, targets, positions, documents, weights, each (T,), of one sequence within a unit."""
        assert start % self.unit + length <= self.unit, "a sequence must not leave its unit"
        return self._read(self.place(start), length)

    def held_batch(self, first: int, count: int, length: int) -> Batch:
        """Sequences first, first + 1, ... of `length` tokens of the units that are held out."""
        start = self.units * self.unit
        places = [start + number * length for number in range(first, first + count)]
        return _batch([self._read(place, length) for place in places])

    def _read(self, place: int, length: int) -> tuple[np.ndarray, ...]:
        window = self.shards.window(place, place + length + 1)
        tokens, documents = window.tokens.astype(np.int64), window.documents
        highest, most = int(tokens.max()), self.shards.vocabulary
        problem = f"{self.shards.folder}: id {highest:,} in a vocabulary of {most:,}: the shards are damaged"
        need(highest < most, problem, "write them again; `verify` of a shard tells which", DataError)
        own = (documents[1:] == documents[:-1]).astype(np.float32)
        positions = np.minimum(window.positions, np.arange(length + 1))[:-1]
        return tokens[:-1], tokens[1:], positions, documents[:-1], own


@dataclass(frozen=True)
class Share:
    """A set of shards in a stage: its weight, and how many tokens of its row were read before the stage."""

    row: Row
    weight: float
    before: int = 0


class Loader:
    """The samples of one stage: sequences of `length` tokens from several rows by weight."""

    def __init__(self, shares: Sequence[Share], length: int, seed: int):
        total = sum(share.weight for share in shares)
        need(total > 0, "no set of shards has a weight", error=ConfigError)
        odd = [share.row.unit for share in shares if share.row.unit % length]
        need(not odd, f"sequences of {length:,} do not divide units of {odd[:1]}",
             "another length", ConfigError)  # fmt: skip
        self.shares, self.length, self.seed = tuple(shares), length, seed
        self.edges = np.cumsum([0.0] + [share.weight / total for share in shares])
        self.edges[-1] = 1.0

    def counts(self, samples: int) -> np.ndarray:
        """(sets,) int64: how many of the first so many samples each set gives."""
        blocks, left = divmod(samples, BLOCK)
        whole = np.diff(np.floor(self.edges * (blocks * BLOCK)).astype(np.int64))
        return whole + np.bincount(self._block(blocks)[:left], minlength=len(self.shares))

    def sources(self, first: int, count: int) -> list[tuple[int, int]]:
        """(set, start in its row) of the samples first, first + 1, ..."""
        taken, found = self.counts(first), []
        for number in range(first, first + count):
            which = int(self._block(number // BLOCK)[number % BLOCK])
            share = self.shares[which]
            skipped = -(
                -share.before // self.length
            )  # where the length changes, up to one sequence is left out
            found.append((which, (skipped + int(taken[which])) * self.length))
            taken[which] += 1
        return found

    def batch(self, first: int, count: int) -> Batch:
        """The samples first, first + 1, ..., `count` of them."""
        rows = [
            self.shares[which].row.sequence(start, self.length) for which, start in self.sources(first, count)
        ]
        return _batch(rows)

    @lru_cache(maxsize=4)  # noqa: B019 (a loader lives as long as its run)
    def _block(self, number: int) -> np.ndarray:
        """(BLOCK,) which set each sample of a block is from, in an order of its own."""
        ends = [np.floor(self.edges * (BLOCK * n)).astype(np.int64) for n in (number, number + 1)]
        counts = np.diff(ends[1]) - np.diff(ends[0])
        keys = mixed(np.arange(BLOCK, dtype=np.uint64), self.seed, f"block {number}")
        return np.repeat(np.arange(len(self.shares)), counts)[np.argsort(keys, kind="stable")]


def _batch(rows: list[tuple[np.ndarray, ...]]) -> Batch:
    return Batch(*(np.stack(column) for column in zip(*rows, strict=True)))


def shuffled(turn: int, count: int, seed: int, epoch: int) -> int:
    """Which of `count` things has this turn: a permutation that is never written down (Feistel, walked)."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask, at = (1 << half) - 1, turn
    while True:
        left, right = at >> half, at & mask
        for number in range(ROUNDS):
            key = mixed(np.array([right], np.uint64), seed, f"epoch {epoch} round {number}")
            left, right = right, left ^ int(key[0] >> np.uint64(64 - half))
        at = left << half | right
        if at < count:
            return at
