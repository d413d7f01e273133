"""Benchmarks out of the training data: a document that holds a run of words of a question or an answer is
dropped, or loses them.

Words are normal words: case, accents and punctuation hide nothing. A paraphrase is not found.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from puna.data.array_file import fingerprint_with, version_of
from puna.data.benchmark_runs import BenchmarkRuns, load_runs
from puna.data.normal_words import Words, normal_words, runs_of
from puna.data.stage import Annotation, Gate, Stage, Verdict, first_reason

_CHARACTERS = 1 << 20  # looked at at once, but for a text that is longer


@dataclass(frozen=True)
class Matches:
    """What was found in some texts."""

    counts: np.ndarray  # (texts,) int32: places where a run of a benchmark begins
    shares: np.ndarray  # (texts,) float32: of the words, how many lie in such runs
    owners: np.ndarray  # (texts,) int32: the benchmark with most of them, or -1
    items: np.ndarray  # (texts,) int64: an item of it, or -1
    spans: list[list[tuple[int, int]]]  # for each text (begin, end) in characters; neighbours are one


def find(texts: Sequence[str], runs: BenchmarkRuns) -> Matches:
    """Where the texts hold runs of benchmarks."""
    parts = [_find(some, runs) for some in _groups(texts)] or [_find([], runs)]
    counts, shares, owners, items = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("counts", "shares", "owners", "items")
    )
    return Matches(counts, shares, owners, items, [spans for part in parts for spans in part.spans])


def _groups(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in order, as many together as are looked at at once; one at least."""
    start = held = 0
    for at, text in enumerate(texts):
        if at > start and held + len(text) > _CHARACTERS:
            yield texts[start:at]
            start, held = at, 0
        held += len(text)
    if start < len(texts):
        yield texts[start:]


class _Against(Stage):
    relation = "decontaminated_against"
    runs: str  # a file that `BenchmarkRuns.save` wrote

    def opens(self) -> tuple[str, ...]:
        return (self.runs,)

    def fingerprint(self) -> str:
        return fingerprint_with(super().fingerprint(), Path(self.runs))

    def _opened(self) -> BenchmarkRuns:
        return _open(*version_of(Path(self.runs)))


class BenchmarkOverlap(_Against, Annotation):
    """Records what of benchmarks a document holds, and cuts it out of the text if told to."""

    name = "decontaminate.overlap"
    writes = {
        "decontam.matches": pa.int32(),
        "decontam.share": pa.float32(),
        "decontam.benchmark": pa.string(),  # null: none
        "decontam.item": pa.int64(),  # its number there; null: none
    }
    mask: str | None = None  # what stands in the text where a benchmark stood; None leaves the text alone

    def __call__(self, table: pa.Table) -> pa.Table:
        runs, texts = self._opened(), table["text"].to_pylist()
        found = find(texts, runs)
        names = [None if owner < 0 else runs.names[owner] for owner in found.owners]
        values = [
            pa.array(found.counts),
            pa.array(found.shares),
            pa.array(names, pa.string()),
            pa.array(found.items, pa.int64(), mask=found.items < 0),
        ]
        for column, array in zip(self.writes, values, strict=True):
            table = table.append_column(column, array)
        if self.mask is None:
            return table
        at = table.column_names.index("text")
        masked = [_masked(text, spans, self.mask) for text, spans in zip(texts, found.spans, strict=True)]
        return table.set_column(at, table.schema.field(at), pa.array(masked, pa.large_string()))


class Decontaminate(_Against, Gate):
    """Drops documents that hold runs of benchmarks: `decontaminate.<benchmark>`, that of most runs."""

    name = "decontaminate"
    least_matches: int = Field(1, ge=1)  # [GPT-3, appendix C] one is enough
    least_share: float = Field(0.0, ge=0, le=1)  # of the document's words, in runs

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"decontaminate.{name}" for name in self._opened().names)

    def __call__(self, table: pa.Table) -> Verdict:
        runs = self._opened()
        found = find(table["text"].to_pylist(), runs)
        broken = (found.counts >= self.least_matches) & (found.shares >= self.least_share)
        rules = [(broken & (found.owners == at), at, found.counts) for at in range(len(runs.names))]
        return first_reason(len(table), rules)


@functools.lru_cache(maxsize=2)
def _open(path: str, size: int, changed: int) -> BenchmarkRuns:
    """Runs are read once for each version of their file."""
    return load_runs(path)


def _find(texts: Sequence[str], runs: BenchmarkRuns) -> Matches:
    words = normal_words(texts)
    starts, ends, owners, items = [], [], [], []  # of the hits: words, then whose
    for at, length in enumerate(runs.lengths):
        hashes, offsets = runs_of(words.hashes, words.offsets, length)
        hits, places = runs.whose(at, hashes)
        text = np.searchsorted(offsets, hits, side="right") - 1
        starts.append(hits - offsets[text] + words.offsets[text])
        ends.append(starts[-1] + length)
        owners.append(runs.owners[at][places])
        items.append(runs.items[at][places])
    first, last = np.concatenate(starts), np.concatenate(ends)
    text = np.searchsorted(words.offsets, first, side="right") - 1
    counts = np.bincount(text, minlength=len(texts)).astype(np.int32)
    best, item = _most(text, np.concatenate(owners), np.concatenate(items), len(texts))
    covered = _covered(first, last, len(words.hashes))
    total = np.concatenate(([0], np.cumsum(covered)))[words.offsets]
    shares = np.diff(total) / np.maximum(np.diff(words.offsets), 1)
    return Matches(counts, shares.astype(np.float32), best, item, _spans(covered, words))


def _most(text: np.ndarray, owner: np.ndarray, item: np.ndarray, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """For each text (the owner with most hits, the lowest item of its); -1 where there is no hit."""
    best, which = np.full(texts, -1, np.int32), np.full(texts, -1, np.int64)
    keys, counts = np.unique(np.stack([text, owner.astype(np.int64)], 1), axis=0, return_counts=True)
    order = np.lexsort((-keys[:, 1], counts, keys[:, 0]))  # the last one of a text is the one with most hits
    best[keys[order, 0]] = keys[order, 1]
    mine = owner == best[text]
    order = np.lexsort((-item[mine].astype(np.int64), text[mine]))
    which[text[mine][order]] = item[mine][order]
    return best, which


def _covered(first: np.ndarray, last: np.ndarray, words: int) -> np.ndarray:
    """(words,) bool: which lie in some first : last."""
    steps = np.bincount(first, minlength=words + 1) - np.bincount(last, minlength=words + 1)
    return np.cumsum(steps[:words]) > 0


def _spans(covered: np.ndarray, words: Words) -> list[list[tuple[int, int]]]:
    """For each text where its covered words stand, neighbours together, in characters."""
    spans: list[list[tuple[int, int]]] = [[] for _ in range(len(words.offsets) - 1)]
    places = np.flatnonzero(covered)
    text = np.searchsorted(words.offsets, places, side="right") - 1
    new = np.concatenate(([True], (np.diff(places) > 1) | (np.diff(text) > 0)))[: len(places)]
    heads = np.flatnonzero(new)
    tails = np.concatenate((heads[1:], [len(places)]))[: len(heads)] - 1
    for head, tail in zip(heads, tails, strict=True):
        spans[text[head]].append((int(words.begins[places[head]]), int(words.ends[places[tail]])))
    return spans


def _masked(text: str, spans: list[tuple[int, int]], mask: str) -> str:
    parts, done = [], 0
    for begin, end in spans:
        parts += [text[done:begin], mask]
        done = end
    return "".join([*parts, text[done:]])
