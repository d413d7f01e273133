"""A document is a row of an Arrow table: the five columns that every source writes, then named attributes.

Attributes are added by stages under a namespace: `lang`, `q.gopher.words`, `d.cluster`. An id comes from what
the document is called in its source, never from the order of reading, so every runner gives the same one.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from puna.errors import DataError, need

BLOCK_BYTES = 1 << 22  # of text at a time: bounds the memory of the temporaries
SCHEMA = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # the name the recipe gives it
        pa.field("url", pa.string(), nullable=False),  # where it is from: an address, a path; may be empty
        pa.field(
            "date", pa.string(), nullable=False
        ),  # ISO 8601, UTC, as far as known: "", "2026", "2026-11-21T..."
        pa.field("text", pa.large_string(), nullable=False),
    ]
)


def make_id(source: str, key: str) -> bytes:
    """The 16 bytes that name a document: of its source and its key there (address and date, path and row)."""
    return hashlib.blake2b(f"{source}\0{key}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def documents(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """A table of documents from rows that hold its columns."""
    return pa.Table.from_pylist(list(rows), schema=schema)


def check(table: pa.Table, where: str) -> pa.Table:
    """The table, if it begins with the five columns in their types."""
    for field in SCHEMA:
        at = table.schema.get_field_index(field.name)
        good = at >= 0 and table.schema.field(at).type == field.type
        need(good, f"{where}: column {field.name!r} is not there as {field.type}", error=DataError)
    return table


def text_buffers(table: pa.Table, column: str = "text") -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets) of a large_string column without a copy where it is in one piece.

    bytes (total,) uint8; offsets (rows + 1,) int64: row i is bytes[offsets[i] : offsets[i + 1]], UTF-8.
    """
    chunks = table[column].chunks
    array = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([], pa.large_string())])
    _, places, data = array.buffers()
    offsets = np.zeros(1, np.int64)
    if len(array):
        offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets


def blocks(
    data: np.ndarray, offsets: np.ndarray, most: int = BLOCK_BYTES
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(first row, bytes, offsets from 0) of consecutive rows, each of `most` bytes or of one larger row."""
    row, rows = 0, len(offsets) - 1
    while row < rows:
        stop = max(row + 1, int(np.searchsorted(offsets, offsets[row] + most, "right")) - 1)
        yield row, data[offsets[row] : offsets[stop]], offsets[row : stop + 1] - offsets[row]
        row = stop
