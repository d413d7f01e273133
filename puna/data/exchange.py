"""Rows change places through files: each task writes one, ordered by where its rows go, with their offsets.

    8 bytes     magic
    8           number of places
    8 * places + 8   offsets of the slices from the start of the file; the first is where the schema ends
    schema      an Arrow IPC message
    slices      8 bytes of the schema's hash, then an Arrow IPC record batch; nothing where no row goes

A place is a partition of the keys (`emit`) or a shard of documents (`reduce`). Reading one place takes one
ranged read a file, whatever the number of places, and there is never a file for each pair. The partition of a
key is the top bits of its product with an odd constant, so keys may be hashes or plain numbers.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from puna.data.store import Sink, Store
from puna.errors import DataError, need

MAGIC = b"PUNAROW1"
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key_bits(keys: np.ndarray, skip: int, bits: int) -> np.ndarray:
    """(rows,) the number that `bits` bits of the mixed keys make, after the first `skip` ones."""
    if not bits:
        return np.zeros(len(keys), np.uint16)
    mixed = (keys * GOLDEN) << np.uint64(skip)
    return (mixed >> np.uint64(64 - bits)).astype(np.uint16)


def keys_of(table: pa.Table) -> np.ndarray:
    return table["key"].to_numpy().astype(np.uint64, copy=False)


def by_partition(
    table: pa.Table, partitions: int, where: str, ranges: bool = False
) -> tuple[pa.Table, np.ndarray]:
    """The rows in the order of their partition, then key, then as they were; and each row's partition.

    ranges: the top bits of the key itself, so that partitions one after the other are in the order of keys.
    """
    at = table.schema.get_field_index("key")
    good = at >= 0 and table.schema.field(at).type == pa.uint64() and not table["key"].null_count
    need(good, f"{where}: emits no uint64 column `key` without nulls", error=DataError)
    keys = keys_of(table)
    order = np.argsort(keys, kind="stable")
    bits = partitions.bit_length() - 1
    places = key_bits(keys[order], 0, bits)
    if ranges and bits:
        places = (keys[order] >> np.uint64(64 - bits)).astype(np.uint16)
    second = np.argsort(places, kind="stable")  # a radix sort: these are 16 bits wide
    return table.take(pa.array(order[second])), places[second]


def by_shard(table: pa.Table, shards: int, where: str) -> tuple[pa.Table, np.ndarray]:
    """The rows in the order of their column `shard`, and that."""
    at = table.schema.get_field_index("shard")
    good = at >= 0 and table.schema.field(at).type == pa.uint32()
    need(good, f"{where}: its results have no uint32 column `shard`", error=DataError)
    places = table["shard"].to_numpy()
    need(
        not len(places) or places.max() < shards,
        f"{where}: names a shard above {shards - 1}",
        error=DataError,
    )
    order = np.argsort(places, kind="stable")
    return table.take(pa.array(order)), places[order]


def write_rows(sink: Sink, table: pa.Table, places: np.ndarray, count: int) -> None:
    """Write rows that stand in the order of their places, which are numbers below `count`."""
    table = _plain(table).combine_chunks()
    schema = table.schema.serialize().to_pybytes()
    mark = hashlib.sha256(schema).digest()[:8]
    edges = np.searchsorted(places, np.arange(count + 1))
    lengths, batches = np.zeros(count, np.int64), {}
    for place in np.flatnonzero(np.diff(edges)):
        first, last = int(edges[place]), int(edges[place + 1])
        batches[place] = first, last
        lengths[place] = 8 + pa.ipc.get_record_batch_size(_batch(table, first, last))
    start = 16 + 8 * (count + 1) + len(schema)
    sink.write(MAGIC + np.int64(count).tobytes())
    sink.write((start + np.concatenate([[0], np.cumsum(lengths)])).astype(np.int64).tobytes())
    sink.write(schema)
    for first, last in batches.values():
        sink.write(mark)
        sink.write(_batch(table, first, last).serialize())


def _plain(table: pa.Table) -> pa.Table:
    """Without metadata and dictionaries, so that every slice stands alone."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    fields = [
        field.with_type(column.type).with_metadata({})
        for field, column in zip(table.schema, columns, strict=True)
    ]
    return pa.table(columns, schema=pa.schema(fields))


def _batch(table: pa.Table, first: int, last: int) -> pa.RecordBatch:
    columns = [column.chunk(0).slice(first, last - first) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)


class Rows:
    """One file of rows, open for reading."""

    def __init__(self, store: Store, name: str):
        self.name, self.file = store.path(name), store.open(name)
        head = self.file.read_at(16, 0)
        need(head[:8] == MAGIC and len(head) == 16, f"{self.name} is no file of rows", error=DataError)
        self.count = int(np.frombuffer(head, np.int64)[1])

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def offsets(self, first: int, last: int) -> np.ndarray:
        """Where the slices of places first .. last - 1 begin, and where the last one ends."""
        return np.frombuffer(self.file.read_at(8 * (last - first + 1), 16 + 8 * first), np.int64)

    def schema(self) -> pa.Schema:
        start = 16 + 8 * (self.count + 1)
        return pa.ipc.read_schema(pa.py_buffer(self.file.read_at(int(self.offsets(0, 0)[0]) - start, start)))

    def slice_bytes(self, place: int) -> int:
        first, last = self.offsets(place, place + 1)
        return int(last - first)

    def slice(self, place: int, schema: pa.Schema) -> pa.RecordBatch | None:
        first, last = map(int, self.offsets(place, place + 1))
        if first == last:
            return None
        data = pa.py_buffer(self.file.read_at(last - first, first))
        mark = hashlib.sha256(schema.serialize().to_pybytes()).digest()[:8]
        same = data.slice(0, 8).to_pybytes() == mark
        need(same, f"{self.name}: its rows have other columns than those of its neighbours", error=DataError)
        return pa.ipc.read_record_batch(data.slice(8), schema)


def read_place(store: Store, names: Sequence[str], place: int) -> pa.Table:
    """All rows that go to one place, in the order of the files."""
    return next(_shares(store, names, place, 0, 0))


def read_all(store: Store, name: str) -> pa.Table:
    """All rows of one file."""
    with Rows(store, name) as rows:
        schema = rows.schema()
        found = [rows.slice(place, schema) for place in range(rows.count)]
        return pa.Table.from_batches([batch for batch in found if batch is not None], schema)


def sorted_shares(
    store: Store, names: Sequence[str], place: int, partitions: int, most: int
) -> Iterator[pa.Table]:
    """The rows of a partition sorted by key, file and row: in shares of the keys of about `most` bytes.

    A partition that is too large is read again for every share: memory stays, reading grows.
    """
    total = 0
    for name in names:
        with Rows(store, name) as rows:
            total += rows.slice_bytes(place)
    bits = min(max(total - 1, 0) // most, 2**15).bit_length()
    for table in _shares(store, names, place, partitions.bit_length() - 1, bits):
        yield table.take(pa.array(np.argsort(keys_of(table), kind="stable")))


def _shares(store: Store, names: Sequence[str], place: int, skip: int, bits: int) -> Iterator[pa.Table]:
    with Rows(store, names[0]) as rows:
        schema = rows.schema()
    for share in range(1 << bits):
        batches = []
        for name in names:
            with Rows(store, name) as rows:
                batch = rows.slice(place, schema)
            if batch is not None and bits:
                keys = batch["key"].to_numpy(zero_copy_only=False)
                batch = batch.filter(pa.array(key_bits(keys, skip, bits) == share))
            if batch is not None and len(batch):
                batches.append(batch)
        yield pa.Table.from_batches(batches, schema).combine_chunks()
