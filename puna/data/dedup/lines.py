"""Lines that a whole crawl repeats: menus, cookie notices, "share this" [Llama 3, 3.1: seen more than 6 times
in a bucket of 30 million documents].

Counts are exact. Each shard counts its own lines, the round adds up, and only the few lines that are too
frequent come back to the shards that hold them. A document's bucket follows from its id.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pydantic import Field

from puna.data.dedup.cutting import cut_out, of_size, with_texts
from puna.data.dedup.order import begins, draws, id_key, mix
from puna.data.document import blocks, text_buffers
from puna.data.rounds import Edit, Round
from puna.kernels.lines import line_hashes
from puna.kernels.words import lookup, sieve


class FrequentLines(Edit):
    """Takes the lines out of documents that stand too often in their bucket; blank lines stay."""

    name = "dedup.lines"
    version = 2  # lines are those of kernels.lines
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
        keys = [np.zeros(0, np.uint64), *(keys for *_, keys in self._lines(table))]
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
        known = sieve(frequent)
        for part, places, starts, stops, keys in self._lines(table.filter(short)):
            gone, _ = lookup(keys, frequent, known)
            texts.append(cut_out(part, places, starts[gone], stops[gone]))
        return with_texts(table, texts, short)

    def _lines(self, table: pa.Table) -> Iterator[tuple[np.ndarray, ...]]:
        """Block by block: bytes, offsets, and of each line that says anything its first byte, where the next
        begins, and its key in its document's bucket."""
        buckets = mix(mix(id_key(table["id"]) ^ draws(self.seed, 1)) % np.uint64(self.buckets))
        for first, part, places in blocks(*text_buffers(table)):
            lines = line_hashes(part, places)
            rows = np.repeat(np.arange(len(places) - 1), np.diff(lines.offsets))
            said, stops = lines.lengths > 0, np.minimum(lines.ends + 1, places[rows + 1])
            keys = lines.hashes ^ buckets[first + rows]
            yield part, places, lines.starts[said], stops[said], keys[said]
