"""Benchmarks as sets of hashes: every run of 13 words of their questions and answers, and whose it is.

[GPT-3, appendix C] 13 words. What is shorter but has 8 words counts by its runs of 8. Runs that many items
share, those of texts known to be common, and rows of single letters, digits or one word are nobody's.
"""

import functools
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from puna.data.array_file import read_arrays, write_arrays
from puna.data.benchmarks import Benchmark, Item, read_benchmark
from puna.errors import DataError, need
from puna.kernels.words import Words, known_runs, runs, sieve, words
from puna.settings import Settings

KIND, VERSION = "benchmark-runs", 2


class BenchmarkSettings(Settings):
    """How the runs of benchmarks are chosen."""

    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    words: int = Field(13, ge=2, le=64)  # [GPT-3, appendix C]
    short_words: int = Field(8, ge=2, le=64)  # for texts of fewer than `words`
    least_telling: float = Field(
        0.5, ge=0, le=1
    )  # of a run's words, those that differ and are no single sign
    most_items: int = Field(20, ge=1)  # a run that more items share is a phrase, not a question


@dataclass(frozen=True)
class BenchmarkRuns:
    """The runs of words by their hashes, and for each whose it is."""

    names: tuple[str, ...]  # of the benchmarks
    lengths: tuple[int, ...]  # in words, longest first
    hashes: tuple[np.ndarray, ...]  # for each length (runs,) uint64, rising
    owners: tuple[np.ndarray, ...]  # for each length (runs,) uint16: index into names
    items: tuple[np.ndarray, ...]  # for each length (runs,) uint32: the first item that has it
    facts: dict[str, Any]  # settings, items of each benchmark, and how many of them no run stands for

    def whose(self, at: int, found: Words) -> tuple[np.ndarray, np.ndarray]:
        """(words with which some benchmark's runs of length number `at` begin, places in `hashes[at]`)."""
        return known_runs(found.hashes, found.first, self.lengths[at], self.hashes[at], self._sieves[at])

    @functools.cached_property
    def _sieves(self) -> list[np.ndarray]:
        return [sieve(hashes) for hashes in self.hashes]

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each benchmark: its items, its runs, and the items that no run stands for."""
        runs = sum(
            (np.bincount(one, minlength=len(self.names)) for one in self.owners), np.zeros(1, np.int64)
        )
        return {
            name: {
                "items": self.facts["items"][name],
                "runs": int(runs[at]),
                "without_runs": self.facts["without_runs"][name],
            }
            for at, name in enumerate(self.names)
        }

    def save(self, path: str | Path) -> str:
        """Write them; the answer is the file's SHA-256."""
        facts = {**self.facts, "names": self.names, "lengths": self.lengths, "kind": KIND, "version": VERSION}
        arrays = {}
        for at, length in enumerate(self.lengths):
            parts = {"hashes": self.hashes[at], "owners": self.owners[at], "items": self.items[at]}
            arrays.update({f"{name}.{length}": array for name, array in parts.items()})
        return write_arrays(path, facts, arrays)


def build_runs(settings: BenchmarkSettings, common: Iterable[str] = ()) -> BenchmarkRuns:
    """The runs of all benchmarks; those that stand in a `common` text are left out."""
    items = [item for one in settings.benchmarks for item in read_benchmark(one)]
    names = tuple(sorted({item.benchmark for item in items}))
    lengths = (settings.words, settings.short_words)
    known = _normal_words(list(common))
    per_length, alive = [], np.zeros(len(items), bool)
    for length in lengths:
        longest = settings.words if length < settings.words else None
        every, places = _runs_of_items(items, length, longest, settings.least_telling)
        hashes, firsts = _uncommon(every, places, settings.most_items)
        keep = ~np.isin(hashes, runs(known.hashes, known.first, length).hashes)
        per_length.append((hashes[keep], firsts[keep]))
        alive[places[np.isin(every, hashes[keep])]] = True
    numbers = np.array([item.number for item in items], np.uint32)
    owners = np.array([names.index(item.benchmark) for item in items], np.uint16)
    facts = {
        "settings": settings.model_dump(mode="json", exclude={"benchmarks": {"__all__": {"path"}}}),
        "items": {name: int((owners == at).sum()) for at, name in enumerate(names)},
        "without_runs": {name: int((~alive & (owners == at)).sum()) for at, name in enumerate(names)},
    }
    hashes_all = tuple(hashes for hashes, _ in per_length)
    of = [firsts for _, firsts in per_length]
    return BenchmarkRuns(
        names, lengths, hashes_all, tuple(owners[f] for f in of), tuple(numbers[f] for f in of), facts
    )


def load_runs(path: str | Path) -> BenchmarkRuns:
    """The runs in a file that `save` wrote; WeightsError or DataError if it is anything else."""
    facts, arrays = read_arrays(path, KIND, VERSION)
    names, lengths = facts.pop("names", None), facts.pop("lengths", None)
    good = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    good = good and isinstance(lengths, list) and all(type(n) is int and 2 <= n <= 64 for n in lengths)
    need(good, f"{path}: its header names no benchmarks", error=DataError)
    columns: dict[str, list[np.ndarray]] = {"hashes": [], "owners": [], "items": []}
    for length in lengths:
        found = [arrays.get(f"{name}.{length}") for name in columns]
        hashes, owners, items = found
        typed = [None if a is None else (a.dtype, a.shape) for a in found]
        size = () if hashes is None else hashes.shape
        right = typed == [(np.uint64, size), (np.uint16, size), (np.uint32, size)] and len(size) == 1
        need(right, f"{path}: runs of {length} words are not there as they should be", error=DataError)
        assert hashes is not None and owners is not None and items is not None
        rising = (hashes[1:] > hashes[:-1]).all() and (owners < len(names)).all()
        need(rising, f"{path}: runs of {length} words are not in order", error=DataError)
        for column, array in zip(columns.values(), (hashes, owners, items), strict=True):
            column.append(array)
    sets = [tuple(column) for column in columns.values()]
    return BenchmarkRuns(tuple(names), tuple(lengths), sets[0], sets[1], sets[2], facts)


def _runs_of_items(
    items: list[Item], length: int, shorter_than: int | None, least_telling: float
) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, index of the item) of every run in the items' texts, or in those with fewer words."""
    texts = [(at, text) for at, item in enumerate(items) for text in item.texts]
    found = _normal_words([text for _, text in texts])
    every = runs(found.hashes, found.first, length)
    owner = np.repeat([at for at, _ in texts], np.diff(every.offsets))
    keep = _telling(found, every.words, length) >= least_telling * length
    if shorter_than is not None:
        keep &= np.repeat(np.diff(found.first) < shorter_than, np.diff(every.offsets))
    return every.hashes[keep], owner[keep]


def _normal_words(texts: Sequence[str]) -> Words:
    """The normal words of texts; case, accents and punctuation hide nothing."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return words(np.frombuffer(b"".join(parts), np.uint8), offsets, "normal")


def _telling(found: Words, places: np.ndarray, length: int) -> np.ndarray:
    """How many different words the run at each place has, single letters and digits left out: 1 2 3 4 is
    nobody's."""
    signs = _normal_words([*string.ascii_lowercase, *string.digits]).hashes
    told = np.where(np.isin(found.hashes, signs), np.uint64(0), found.hashes)
    if not len(places):
        return np.zeros(0, np.int64)
    rows = np.sort(np.lib.stride_tricks.sliding_window_view(told, length)[places], axis=1)
    return (rows[:, 0] != 0) + ((rows[:, 1:] != rows[:, :-1]) & (rows[:, 1:] != 0)).sum(1)


def _uncommon(hashes: np.ndarray, owner: np.ndarray, most_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(rising hashes, the first item of each) of those that no more than so many items have."""
    pairs = np.unique(np.stack([hashes, owner.astype(np.uint64)], 1), axis=0)
    rising, firsts, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    keep = counts <= most_items
    return rising[keep], pairs[firsts[keep], 1].astype(np.int64)
