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
from puna.data.stage import Annotation, Gate, Verdict, first_reason
from puna.kernels.words import Words, said_before, words


class NgramCoverage(Annotation):
    """The share of each document's word bytes that stand in runs of words it had before: `q.coverage`."""

    name = "coverage.ngrams"
    version = 2  # words are those of kernels.words
    writes = {"q.coverage": pa.float32()}

    n: int = Field(10, ge=1)  # Rae et al.: 5 to 10

    def __call__(self, table: pa.Table) -> pa.Table:
        found = words(*text_buffers(table), "digits_alike")
        sizes, again = found.ends - found.starts, said_before(found.hashes, found.first, self.n)
        share = _sums(found, sizes * again) / np.maximum(_sums(found, sizes), 1)
        return table.append_column("q.coverage", pa.array(share, pa.float32()))


def _sums(found: Words, of_word: np.ndarray) -> np.ndarray:
    """(rows,) the sum over each row's words."""
    return np.diff(np.append(0, np.cumsum(of_word))[found.first])


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
    version = 2  # words are those of kernels.words
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
        found = words(data, offsets, "digits_alike")
        breaks = np.flatnonzero(data[offsets[0] : offsets[-1]] == ord("\n")) + 1 + offsets[0]
        starts = np.unique(np.concatenate((offsets[:-1], breaks)))
        starts = starts[starts < offsets[-1]]
        line = np.searchsorted(starts, found.starts, "right") - 1
        sizes = found.ends - found.starts
        again = np.bincount(
            line, sizes * said_before(found.hashes, found.first, self.n, self.times), len(starts)
        )
        gone = again > self.most * np.bincount(line, sizes, len(starts))
        return starts, np.searchsorted(offsets, starts, "right") - 1, gone


def _without(data: np.ndarray, edges: np.ndarray, gone: np.ndarray) -> bytes:
    kept = (data[a:b].tobytes() for a, b, go in zip(edges, edges[1:], gone, strict=False) if not go)
    return b"".join(kept).rstrip(b"\n")
