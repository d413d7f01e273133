"""Documents to ids, in the order that a model will read them.

The order is by a hash of (seed, document, copy): all machines together sort by it, so that any number of
tasks and partitions gives one and the same row of documents. Text never becomes special tokens; what frames
a document is put around it as ids.
"""

from array import array
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from puna.data.chance import draws, id_bytes
from puna.data.mix import COPIES
from puna.data.rounds import Ending, Finish
from puna.data.shards import ShardWriter, shard_name
from puna.data.stage import Annotation, Stage
from puna.errors import DataError, need
from puna.tokenizer.formats import load, tokenizer_file
from puna.tokenizer.tokenizer import Tokenizer

ROWS = pa.schema(  # what is shuffled
    [
        pa.field("key", pa.uint64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("copy", pa.uint32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("tokens", pa.large_list(pa.uint32()), nullable=False),
    ]
)
_TOGETHER = 1024  # rows that are put in order at a time


class Framed(Stage):
    """What documents become ids by. An empty text has no ids, any other its frame too."""

    tokenizer: Path  # a folder, tokenizer.json, tokenizer.model or .gguf
    bos: bool | str = True  # the vocabulary's own, none, or the text of a special token
    eos: bool | str = True

    relation = "tokenized_by"

    def opens(self) -> tuple[str, ...]:
        return (str(tokenizer_file(self.tokenizer)),)

    def fingerprint(self) -> str:
        """Of the vocabulary's content, wherever its file lies."""
        content = loaded(self.tokenizer).fingerprint()
        return Stage.fingerprint(self.model_copy(update={"tokenizer": Path(content)}))

    def ids(self, table: pa.Table) -> pa.LargeListArray:
        """The tokens of each document's text, framed."""
        tokenizer = loaded(self.tokenizer)
        before = _frame(tokenizer, self.bos, "bos", tokenizer.bos_id)
        after = _frame(tokenizer, self.eos, "eos", tokenizer.eos_id)
        flat, offsets = array("I"), np.zeros(len(table) + 1, np.int64)
        for row, text in enumerate(table["text"], 1):
            found = tokenizer.encode(text.as_py())
            flat.fromlist(before + found + after if found else [])
            offsets[row] = len(flat)
        return pa.LargeListArray.from_arrays(offsets, np.frombuffer(flat, np.uint32))


class CountTokens(Framed, Annotation):
    """How long each document is for the model: what a mix weighs."""

    name = "tokens.count"
    writes: ClassVar[dict[str, pa.DataType]] = {"tokens": pa.uint32()}

    def __call__(self, table: pa.Table) -> pa.Table:
        lengths = np.diff(self.ids(table).offsets.to_numpy()).astype(np.uint32)
        return table.append_column(pa.field("tokens", pa.uint32(), nullable=False), pa.array(lengths))


class TokenShards(Framed, Ending):
    """Every document, as many times as the mix takes it, to token shards in the order of a hash."""

    name = "tokens.shards"
    reads: ClassVar[tuple[str, ...]] = ("id", "source", "text")
    may_read: ClassVar[tuple[str, ...]] = (COPIES,)  # where there was a mix
    seed: int = 0

    def finishes(self) -> tuple[Finish, ...]:
        return (Finish(self.name, self.emit, self.write),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """A row for each copy of each document that has text."""
        times = table[COPIES].to_numpy() if COPIES in table.column_names else np.ones(len(table), np.uint32)
        table, times = table.filter(pa.array(times > 0)), times[times > 0]
        ids = self.ids(table)
        times = np.where(np.diff(ids.offsets.to_numpy()) > 0, times, 0).astype(np.int64)
        rows = np.repeat(np.arange(len(table)), times)
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        names = id_bytes(table)[rows]
        columns = [
            pa.array(draws(names, self.seed, self.name, copy)),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(names)]),
            pa.array(copy.astype(np.uint32)),
            table["source"].take(pa.array(rows)),
            ids if (times == 1).all() else ids.take(pa.array(rows)),  # a copy is as long as the text
        ]
        return pa.Table.from_arrays(columns, schema=ROWS)

    def write(self, rows: pa.Table, partition: int, folder: Path) -> list[str]:
        """One shard: all rows of a partition by key, and those of one key by document and copy."""
        halves = id_bytes(rows).view(">u8")
        order = np.lexsort((rows["copy"], halves[:, 1], halves[:, 0], rows["key"]))
        sources = sorted(rows["source"].unique().to_pylist())
        tokenizer, name = loaded(self.tokenizer), shard_name(partition)
        with ShardWriter(folder / name, tokenizer.size, sources, tokenizer.fingerprint()) as shard:
            for start in range(0, len(rows), _TOGETHER):
                part = rows.take(pa.array(order[start : start + _TOGETHER])).combine_chunks()
                lists = part["tokens"].chunk(0)
                number = np.searchsorted(sources, part["source"].to_pylist())
                lengths = np.diff(lists.offsets.to_numpy())
                shard.extend(lists.flatten().to_numpy(), lengths, id_bytes(part), number)
        return [name]


@lru_cache(maxsize=2)
def loaded(path: Path) -> Tokenizer:
    """The tokenizer of a path, read once in a process."""
    return load(path)


def _frame(tokenizer: Tokenizer, wanted: bool | str, part: str, own: int | None) -> list[int]:
    if wanted is False:
        return []
    id = own if wanted is True else tokenizer.specials.get(wanted)
    what = part if wanted is True else f"special token {wanted!r:.40}"
    need(id is not None, f"the vocabulary has no {what}", f"{part} = false", DataError)
    assert id is not None
    return [id]
