"""How much of a document it has said before, in runs of words; and lines that only say it again removed.

Llama 3 removes lines of repeated content such as logging and error messages by the coverage of duplicated
n-grams (Rae et al. 2021): such lines may be long and unique, so that counting equal lines does not find them
[P 3.1.1]. Digits count as 0 here: a new time stamp does not make a line new. The first of their kind stay.
Made for prose and pages; code repeats itself for good reasons.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.document import text_buffers
from puna.data.filters.hashing import mixed
from puna.data.filters.tokens import Words, words
from puna.data.stage import Annotation, Gate, Verdict, first_reason


def said_before(found: Words, n: int, times: int = 1) -> np.ndarray:
    """(words,) whether a word stands in a run of n words that its row had so many times earlier."""
    hashes, places = found.ngrams(n)
    rows = np.searchsorted(found.first, places, "right") - 1
    keys = mixed(hashes + rows.astype(np.uint64))
    some = _not_alone(keys)
    order = some[np.argsort(keys[some], kind="stable")]  # of equal runs the earliest first
    again = keys[order][times:] == keys[order][:-times]
    return _covered(places[order[times:][again]], n, len(found.hashes))


def _not_alone(keys: np.ndarray) -> np.ndarray:
    """Where keys stand that may occur twice: most do not, and need no sorting."""
    slots = (keys >> np.uint64(42)).astype(np.int64)
    last, shared = np.zeros(1 << 22, np.int32), np.zeros(1 << 22, bool)
    last[slots] = np.arange(len(slots))
    shared[slots[last[slots] != np.arange(len(slots))]] = True
    return np.flatnonzero(shared[slots])


def _covered(places: np.ndarray, n: int, total: int) -> np.ndarray:
    """(total,) whether one of the runs that begin at these places reaches there."""
    starts = np.bincount(places, minlength=total).astype(np.int64)
    ends = np.r_[np.zeros(n, np.int64), starts][:total]
    return np.cumsum(starts - ends) > 0


class NgramCoverage(Annotation):
    """The share of each document's word bytes that stand in runs of words it had before: `q.coverage`."""

    name = "coverage.ngrams"
    writes = {"q.coverage": pa.float32()}

    n: int = Field(10, ge=1)  # Rae et al.: 5 to 10

    def __call__(self, table: pa.Table) -> pa.Table:
        found = words(*text_buffers(table), fold_digits=True)
        sizes = found.ends - found.starts
        share = found.sums(sizes * said_before(found, self.n)) / np.maximum(found.sums(sizes), 1)
        return table.append_column("q.coverage", pa.array(share, pa.float32()))


class CoverageGate(Gate):
    """Drops documents that mostly repeat themselves."""

    name = "coverage.gate"
    reads = ("q.coverage",)
    reasons = ("coverage.ngrams",)

    most: float = 0.10  # Rae et al. for n = 10; 0.15 0.14 0.13 0.12 0.11 for n = 5 to 9

    def __call__(self, table: pa.Table) -> Verdict:
        share = table["q.coverage"].to_numpy()
        return first_reason(len(table), [(share > self.most, 0, share)])


class RepeatedLines(Annotation):
    """Removes lines made of what the document said before, and counts them: `q.lines_removed`."""

    name = "coverage.lines"
    writes = {"q.lines_removed": pa.int32()}

    n: int = Field(5, ge=1)  # words of a run; the shortest of Rae et al., since log lines are short
    times: int = Field(2, ge=1)  # how often the run came before: a refrain may be sung twice
    most: float = 0.60  # of the line's word bytes; our own: it costs encyclopedia articles 0.2% of their text

    def __call__(self, table: pa.Table) -> pa.Table:
        data, offsets = text_buffers(table)
        starts, rows, gone = self._lines(data, offsets)
        removed = np.bincount(rows[gone], minlength=len(table))
        texts = pa.concat_arrays([pa.array([], pa.large_string()), *table["text"].chunks])
        if gone.any():
            new = [
                _without(data, np.r_[starts[rows == row], offsets[row + 1]], gone[rows == row])
                for row in np.flatnonzero(removed)
            ]
            texts = pc.replace_with_mask(texts, removed > 0, pa.array(new, texts.type))
        table = table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), texts)
        return table.append_column("q.lines_removed", pa.array(removed, pa.int32()))

    def _lines(self, data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(where each line begins, its row, whether it goes)."""
        found = words(data, offsets, fold_digits=True)
        breaks = np.flatnonzero(data[offsets[0] : offsets[-1]] == ord("\n")) + 1 + offsets[0]
        starts = np.unique(np.concatenate((offsets[:-1], breaks)))
        starts = starts[starts < offsets[-1]]
        line = np.searchsorted(starts, found.starts, "right") - 1
        sizes = found.ends - found.starts
        again = np.bincount(line, sizes * said_before(found, self.n, self.times), len(starts))
        gone = again > self.most * np.bincount(line, sizes, len(starts))
        return starts, np.searchsorted(offsets, starts, "right") - 1, gone


def _without(data: np.ndarray, edges: np.ndarray, gone: np.ndarray) -> bytes:
    kept = (data[a:b].tobytes() for a, b, go in zip(edges, edges[1:], gone, strict=False) if not go)
    return b"".join(kept).rstrip(b"\n")
