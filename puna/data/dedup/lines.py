"""Lines that a whole crawl repeats: menus, cookie notices, "share this" [Llama 3, 3.1: seen more than 6 times
in a bucket of 30 million documents].

Counts are exact. Each shard counts its own lines, the round adds up, and only the few lines that are too
frequent come back to the shards that hold them. A document's bucket follows from its id.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pydantic import Field

from puna.data.dedup.order import begins, draws, id_key, mix
from puna.data.dedup.shingles import blocks, cut_out, of_size, span_hashes, with_texts
from puna.data.document import text_buffers
from puna.data.rounds import Edit, Round

_BLANK = np.isin(np.arange(256), list(b"\t\v\f\r "))


class FrequentLines(Edit):
    """Takes the lines out of documents that stand too often in their bucket; blank lines stay."""

    name = "dedup.lines"
    reads = ("id", "text")
    most: int = Field(6, ge=1)  # [Llama 3, 3.1] times that a line may stand in a bucket
    buckets: int = Field(1, ge=1)  # [Llama 3, 3.1] documents of the whole run / 30 million, rounded up
    longest: int = Field(1 << 24, ge=1)  # bytes; a longer document is neither counted nor cut
    seed: int = 1

    def rounds(self) -> tuple[Round, ...]:
        return (Round("lines", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """How often each line stands in each bucket, in this shard alone."""
        table = table.filter(of_size(table, self.longest))
        keys = [np.zeros(0, np.uint64), *(keys[said] for *_, keys, said in self._lines(table))]
        key, times = np.unique(np.concatenate(keys), return_counts=True)
        return pa.table({"key": key, "times": times, "shard": np.full(len(key), shard, np.uint32)})

    def reduce(self, rows: pa.Table) -> pa.Table:
        """The lines that stand too often in all shards together, once for each shard that holds them."""
        line = np.cumsum(begins(rows, "key")) - 1
        times = np.zeros(line[-1] + 1 if len(line) else 0, np.int64)
        np.add.at(times, line, rows["times"].to_numpy())
        return rows.filter(pa.array((times > self.most)[line])).select(["shard", "key"])

    def apply(self, table: pa.Table, side: pa.Table) -> pa.Table:
        if not len(side):
            return table
        frequent, texts, short = np.sort(side["key"].to_numpy()), [], of_size(table, self.longest)
        for part, places, starts, stops, keys, said in self._lines(table.filter(short)):
            gone = said & np.isin(keys, frequent)
            texts += cut_out(part, places, starts[gone], stops[gone])
        return with_texts(table, texts, short)

    def _lines(self, table: pa.Table) -> Iterator[tuple[np.ndarray, ...]]:
        """Block by block: bytes, offsets, and of each line its first byte, where the next begins, its key in
        its document's bucket, and whether it says anything."""
        buckets = mix(id_key(table["id"]) ^ draws(self.seed, 1)) % np.uint64(self.buckets)
        for first, part, places in blocks(*text_buffers(table)):
            starts, stops = _lines(part, places)
            rows = np.searchsorted(places, starts, "right") - 1
            said, begin, end = _trimmed(part, starts, stops)
            keys = span_hashes(part, begin, end, cased=True) ^ mix(buckets[first + rows])
            yield part, places, starts, stops, keys, said


def _lines(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first byte, first byte of the next) of every line; a line ends with its row at the latest."""
    cut = np.append(True, data == 10)
    cut[offsets] = True
    cuts = np.flatnonzero(cut)
    return cuts[:-1], cuts[1:]


def _trimmed(data: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each line: does it say anything, and where does that begin and end without the blanks around?"""
    at = np.flatnonzero(~_BLANK[data] & (data != 10))
    first, last = np.searchsorted(at, starts), np.searchsorted(at, stops) - 1
    said = last >= first
    at = np.append(at, 0)
    return said, np.where(said, at[np.where(said, first, -1)], 0), np.where(said, at[last] + 1, 0)
