"""Long passages that several documents share: kept in the best of them, cut out of the others.

Windows of 50 words begin where the words themselves say so (a hash of eight words from there is a multiple of
`spacing`), so the same passage has the same windows wherever it stands, and no suffix array is needed. A
document loses the words of every window that a better document has; the best one loses nothing. Passages are
cut from the first to the last such window, so up to `spacing` words or so at either end remain.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.dedup.cutting import cut_out, of_size, with_texts
from puna.data.dedup.order import begins, best_first, crowded, mix, standing
from puna.data.document import blocks, text_buffers
from puna.data.rounds import Edit, Round
from puna.kernels.words import lookup, runs, sieve, words

_ANCHOR = 8  # words whose hash says whether a window begins


class SharedPassages(Edit):
    """Cuts passages out of documents that a better one by the total order of order.py has as well."""

    name = "dedup.passages"
    version = 2  # words are those of kernels.words
    window: int = Field(50, ge=_ANCHOR)  # words [exact-substring removal is usual from 50 tokens on]
    spacing: int = Field(10, ge=1)  # words from one window to the next, on average
    fewest: int = Field(50, ge=1)  # words of a passage that is cut
    longest: int = Field(1 << 24, ge=1)  # bytes; a longer document neither loses nor keeps a passage
    priority: str = ""  # a column; the highest value keeps the passage

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("id", "date", "text", *filter(None, (self.priority,)))

    def rounds(self) -> tuple[Round, ...]:
        return (Round("windows", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Each document under each of its windows, once."""
        table = table.filter(of_size(table, self.longest))
        found = [(first + rows[at], keys) for first, *_, rows, keys, at in self._windows(table)]
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)])
        keys = np.concatenate([np.zeros(0, np.uint64), *(keys for _, keys in found)])
        once = pa.table({"key": keys, "row": rows}).sort_by([("row", "ascending"), ("key", "ascending")])
        once = once.filter(pa.array(begins(once, "row", "key")))
        columns = pa.table(standing(table, shard, self.priority)).take(once["row"])
        return columns.add_column(0, "key", once["key"])

    def reduce(self, rows: pa.Table) -> pa.Table:
        """The windows that each document loses to a better one."""
        rows = best_first(crowded(rows, "key"), "key")
        return rows.filter(pa.array(~begins(rows, "key"))).select(["shard", "id", "key"])

    def apply(self, table: pa.Table, side: pa.Table) -> pa.Table:
        if not len(side):
            return table
        short = of_size(table, self.longest)
        rest = table.filter(short)
        row = pc.index_in(side["id"], value_set=rest["id"].combine_chunks())
        row = row.fill_null(len(rest)).to_numpy()  # those of the shard's other rows
        lost, texts = np.sort(_named(row, side["key"].to_numpy())), []
        known = sieve(lost)
        for first, part, places, starts, rows, keys, at in self._windows(rest):
            gone = at[lookup(_named(first + rows[at], keys), lost, known)[0]]
            texts.append(cut_out(part, places, *self._passages(gone, starts, rows, places)))
        return with_texts(table, texts, short)

    def _passages(
        self, at: np.ndarray, starts: np.ndarray, rows: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(first byte, first byte after) of the long passages that the windows from the words `at` cover."""
        turns = np.zeros(len(starts) + 1, np.int64)
        turns[at] += 1
        turns[at + self.window] -= 1
        covered = np.cumsum(turns[:-1]) > 0
        same_row = np.append(False, rows[1:] == rows[:-1])
        joined = same_row & np.append(False, covered[:-1]) & covered  # to the word before
        begin = np.flatnonzero(covered & ~joined)
        end = np.flatnonzero(covered & ~np.append(joined[1:], False)) + 1
        long_enough = end - begin >= self.fewest
        begin, end = begin[long_enough], end[long_enough]
        next_word = np.append(starts, places[-1])[end]
        return starts[begin], np.minimum(next_word, places[rows[begin] + 1])

    def _windows(self, table: pa.Table) -> Iterator[tuple]:
        """Block by block: first row, bytes, offsets; of words the first byte and the row; of windows the hash
        and the first word."""
        for first, part, places in blocks(*text_buffers(table)):
            found = words(part, places)
            anchors = runs(found.hashes, found.first, _ANCHOR)
            begins = np.zeros(len(found.hashes), bool)
            begins[anchors.words[anchors.hashes % np.uint64(self.spacing) == 0]] = True
            windows = runs(found.hashes, found.first, self.window)
            begun = begins[windows.words]
            keys, at = windows.hashes[begun], windows.words[begun]
            yield first, part, places, found.starts, found.rows(), keys, at


def _named(rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """One number for a window of a row."""
    return mix(rows.astype(np.uint64) + np.uint64(1)) ^ keys
