"""Benchmarks out of the training data: a document that holds a run of words of a question or an answer is
dropped, or loses them.

Words are normal words: case, accents and punctuation hide nothing. A paraphrase is not found.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.array_file import fingerprint_with, version_of
from puna.data.benchmark_runs import BenchmarkRuns, load_runs
from puna.data.document import blocks, text_buffers
from puna.data.stage import Annotation, Gate, Stage, Verdict, first_reason
from puna.kernels.words import Words, words


@dataclass(frozen=True)
class Matches:
    """What was found in some texts."""

    counts: np.ndarray  # (texts,) int32: places where a run of a benchmark begins
    shares: np.ndarray  # (texts,) float32: of the words, how many lie in such runs
    owners: np.ndarray  # (texts,) int32: the benchmark with most of them, or -1
    items: np.ndarray  # (texts,) int64: an item of it, or -1
    spans: list[list[tuple[int, int]]]  # for each text places (begin, end) in `data`; neighbours are one


def find(data: np.ndarray, offsets: np.ndarray, known: BenchmarkRuns) -> Matches:
    """Where the texts data[offsets[i] : offsets[i + 1]] hold runs of benchmarks."""
    whole = [
        (_find(part, places, known), int(offsets[first])) for first, part, places in blocks(data, offsets)
    ]
    whole = whole or [(_find(data, offsets, known), 0)]
    parts = [part for part, _ in whole]
    counts, shares, owners, items = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("counts", "shares", "owners", "items")
    )
    spans = [[(a + at, b + at) for a, b in one] for part, at in whole for one in part.spans]
    return Matches(counts, shares, owners, items, spans)


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
    version = 2  # its words are those of kernels.words
    writes = {
        "decontam.matches": pa.int32(),
        "decontam.share": pa.float32(),
        "decontam.benchmark": pa.string(),  # null: none
        "decontam.item": pa.int64(),  # its number there; null: none
    }
    mask: str | None = None  # what stands in the text where a benchmark stood; None leaves the text alone

    def __call__(self, table: pa.Table) -> pa.Table:
        runs, (data, offsets) = self._opened(), text_buffers(table)
        found = find(data, offsets, runs)
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
        at = table.schema.get_field_index("text")
        hit = np.flatnonzero(found.counts)
        masked = [_masked(data, offsets[row : row + 2], found.spans[row], self.mask) for row in hit]
        where, new = pa.array(found.counts > 0), pa.array(masked, pa.large_string())
        texts = pc.replace_with_mask(table["text"].combine_chunks(), where, new)
        return table.set_column(at, table.schema.field(at), texts)


class Decontaminate(_Against, Gate):
    """Drops documents that hold runs of benchmarks: `decontaminate.<benchmark>`, that of most runs."""

    name = "decontaminate"
    version = 2  # its words are those of kernels.words
    least_matches: int = Field(1, ge=1)  # [GPT-3, appendix C] one is enough
    least_share: float = Field(0.0, ge=0, le=1)  # of the document's words, in runs

    @property
    def reasons(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"decontaminate.{name}" for name in self._opened().names)

    def __call__(self, table: pa.Table) -> Verdict:
        runs = self._opened()
        found = find(*text_buffers(table), runs)
        broken = (found.counts >= self.least_matches) & (found.shares >= self.least_share)
        rules = [(broken & (found.owners == at), at, found.counts) for at in range(len(runs.names))]
        return first_reason(len(table), rules)


@functools.lru_cache(maxsize=2)
def _open(path: str, size: int, changed: int) -> BenchmarkRuns:
    """Runs are read once for each version of their file."""
    return load_runs(path)


def _find(data: np.ndarray, offsets: np.ndarray, known: BenchmarkRuns) -> Matches:
    found, texts = words(data, offsets, "normal"), len(offsets) - 1
    starts, ends, owners, items = [], [], [], []  # of the hits: words, then whose
    for at, length in enumerate(known.lengths):
        begins, places = known.whose(at, found)
        starts.append(begins)
        ends.append(begins + length)
        owners.append(known.owners[at][places])
        items.append(known.items[at][places])
    first, last = np.concatenate(starts), np.concatenate(ends)
    text = np.searchsorted(found.first, first, side="right") - 1
    counts = np.bincount(text, minlength=texts).astype(np.int32)
    best, item = _most(text, np.concatenate(owners), np.concatenate(items), texts)
    covered = _covered(first, last, len(found.hashes))
    total = np.concatenate(([0], np.cumsum(covered)))[found.first]
    shares = np.diff(total) / np.maximum(np.diff(found.first), 1)
    return Matches(counts, shares.astype(np.float32), best, item, _spans(covered, found))


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


def _spans(covered: np.ndarray, found: Words) -> list[list[tuple[int, int]]]:
    """For each text where its covered words stand, neighbours together."""
    spans: list[list[tuple[int, int]]] = [[] for _ in range(len(found.first) - 1)]
    places = np.flatnonzero(covered)
    text = np.searchsorted(found.first, places, side="right") - 1
    new = np.concatenate(([True], (np.diff(places) > 1) | (np.diff(text) > 0)))[: len(places)]
    heads = np.flatnonzero(new)
    tails = np.concatenate((heads[1:], [len(places)]))[: len(heads)] - 1
    for head, tail in zip(heads, tails, strict=True):
        spans[text[head]].append((int(found.starts[places[head]]), int(found.ends[places[tail]])))
    return spans


def _masked(data: np.ndarray, row: np.ndarray, spans: list[tuple[int, int]], mask: str) -> bytes:
    """The bytes of the text from row[0] to row[1], with the mask in place of each span."""
    edges = [int(row[0]), *(place for span in spans for place in span), int(row[1])]
    kept = [data[a:b].tobytes() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return mask.encode().join(kept)
