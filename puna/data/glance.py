"""Looking into a few files of a run: which ones, how much of them, and their rows as plain values.

The choice follows from the files' names, so whoever looks twice sees the same.
"""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna.data.receipts import Output
from puna.data.store import Store

FILES = 48  # of a step that are looked into
GROUP_BYTES = 64 << 20  # of text in a row group; a larger one is not read
CHARACTERS = 1500  # of a text that are handed on


def chosen(outputs: Iterable[Output], most: int) -> list[Output]:
    """Some of the files, always the same ones: a file of twice the rows is twice as likely."""

    def place(one: Output) -> float:
        head = int.from_bytes(hashlib.sha256(one.name.encode()).digest()[:7], "big")
        return -math.log((head + 1) / 2**56) / max(one.rows, 1)

    return sorted(outputs, key=place)[:most]


def readable(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as plain values: ids in hex, only the beginning of a text."""
    if "text" in table.column_names:
        at = table.column_names.index("text")
        cut = pc.utf8_slice_codeunits(table["text"], 0, CHARACTERS)
        table = table.append_column("characters", pc.utf8_length(table["text"])).set_column(at, "text", cut)
    rows = table.to_pylist()
    return [{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in rows]


def text_size(file: pq.ParquetFile, group: int) -> int:
    """Bytes that the texts of a row group take when they are read."""
    facts = file.metadata.row_group(group)
    names = [facts.column(i).path_in_schema for i in range(facts.num_columns)]
    return int(facts.column(names.index("text")).total_uncompressed_size)


def find(store: Store, name: str, id: bytes) -> dict[str, Any] | None:
    """A document of a file, with the beginning of its text; only its row group is read."""
    with store.open(name) as source:
        file = pq.ParquetFile(source)
        for group in range(file.num_row_groups):
            hit = pc.equal(file.read_row_group(group, ["id"])["id"], pa.scalar(id, pa.binary(16)))
            if pc.any(hit).as_py():
                wanted = ["id", "source", "url"] + ["text"] * (text_size(file, group) <= GROUP_BYTES)
                return readable(file.read_row_group(group, wanted).filter(hit))[0]
    return None
