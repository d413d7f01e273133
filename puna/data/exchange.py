"""Rows change places through files: each task writes one, ordered by where its rows go, with their offsets.

    slices      an Arrow IPC record batch each, in a Zstandard frame; nothing where no row goes
    schema      an Arrow IPC message
    offsets     int64 x 2 x (places + 1): where each slice begins, and where it would if nothing were packed
    24 bytes    8 of the schema's hash, the number of places, magic

A place is a partition of the keys (`emit`) or a shard of documents (`reduce`). Reading one place takes one
ranged read a file, whatever the number of places, and there is never a file for each pair. The partition of a
key is the top bits of its product with an odd constant, so keys may be hashes or plain numbers.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import zstandard

from puna.data.store import Sink, Store
from puna.errors import DataError, need

MAGIC = b"PUNAROW2"
TAIL = 24  # bytes
LEVEL = -1  # of Zstandard: band keys with their ids take 30 bytes instead of 53, at 0.1 us a row both ways
TAKEN = 32 << 20  # bytes of rows
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key_bits(keys: np.ndarray, skip: int, bits: int) -> np.ndarray:
    """(rows,) the number that `bits` bits of the mixed keys make, after the first `skip` ones."""
    if not bits:
        return np.zeros(len(keys), np.uint16)
    mixed = (keys * GOLDEN) << np.uint64(skip)
    return (mixed >> np.uint64(64 - bits)).astype(np.uint16)


def keys_of(table: pa.Table) -> np.ndarray:
    return table["key"].to_numpy().astype(np.uint64, copy=False)


def by_partition(table: pa.Table, partitions: int, where: str, ranges: bool = False) -> np.ndarray:
    """(rows,) uint16: the partition of each row's key.

    ranges: the top bits of the key itself, so that partitions one after the other are in the order of keys.
    """
    at = table.schema.get_field_index("key")
    good = at >= 0 and table.schema.field(at).type == pa.uint64() and not table["key"].null_count
    need(good, f"{where}: emits no uint64 column `key` without nulls", error=DataError)
    keys, bits = keys_of(table), partitions.bit_length() - 1
    return (keys >> np.uint64(64 - bits)).astype(np.uint16) if ranges and bits else key_bits(keys, 0, bits)


def key_order(keys: np.ndarray) -> np.ndarray:
    """`np.argsort(keys, kind="stable")` of uint64, for hashes in half the time: two radix sorts by the upper
    32 bits, then only the rows are sorted that agree in these and do not stand right."""
    order = np.argsort((keys >> np.uint64(32)).astype(np.uint16), kind="stable")
    order = order[np.argsort((keys[order] >> np.uint64(48)).astype(np.uint16), kind="stable")]
    found = keys[order]
    wrong = np.flatnonzero(found[1:] < found[:-1])
    if len(wrong):
        upper = found >> np.uint64(32)
        group = np.cumsum(np.append(False, upper[1:] != upper[:-1]))
        rows = np.flatnonzero(np.isin(group, group[wrong]))
        order[rows] = order[rows][np.argsort(found[rows], kind="stable")]
    return order


def by_shard(table: pa.Table, shards: int, where: str) -> np.ndarray:
    """(rows,) uint32: the column `shard`, whose numbers are below `shards`."""
    at = table.schema.get_field_index("shard")
    good = at >= 0 and table.schema.field(at).type == pa.uint32()
    need(good, f"{where}: its results have no uint32 column `shard`", error=DataError)
    places = table["shard"].to_numpy()
    problem = f"{where}: names a shard above {shards - 1}"
    need(not len(places) or places.max() < shards, problem, error=DataError)
    return places


def write_rows(sink: Sink, table: pa.Table, places: np.ndarray, count: int) -> None:
    """Write rows in the order of their places, numbers below `count`; those of one place as they stand."""
    table = _plain(table).combine_chunks()
    schema = table.schema.serialize().to_pybytes()
    pack = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress
    sizes = np.zeros((count + 1, 2), np.int64)  # of the slice before: packed, plain
    for place, rows in _by_place(table, places, count):
        plain = rows.serialize()
        sizes[place + 1] = sink.write(pack(plain)), plain.size
    sink.write(schema)
    sink.write(np.cumsum(sizes, axis=0).tobytes())
    sink.write(_mark(schema) + np.int64(count).tobytes() + MAGIC)


def _by_place(table: pa.Table, places: np.ndarray, count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each place that has some. About TAKEN bytes are copied at a time, and at least a place."""
    places = places.astype(np.uint16) if count <= 1 << 16 else places  # radix sorts these
    order = np.argsort(places, kind="stable")
    edges = np.searchsorted(places[order], np.arange(count + 1))
    filled = np.flatnonzero(np.diff(edges))
    rows = TAKEN * len(table) // max(table.nbytes, 1)
    while len(filled):
        first = int(edges[filled[0]])
        some = max(1, int(np.searchsorted(edges[filled + 1], first + rows, "right")))
        last = int(edges[filled[some - 1] + 1])
        alone = last - first == len(table) and some == 1
        taken = table if alone else table.take(pa.array(order[first:last])).combine_chunks()
        [batch] = taken.to_batches()
        for place in filled[:some].tolist():
            yield place, batch.slice(int(edges[place]) - first, int(edges[place + 1] - edges[place]))
        filled = filled[some:]


def _mark(schema: bytes) -> bytes:
    return hashlib.sha256(schema).digest()[:8]


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


@cache
def _unpacker() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor()  # to make one takes 40 us, to unpack a slice 1


class Rows:
    """One file of rows, open for reading."""

    def __init__(self, store: Store, name: str):
        self.name, self.file = store.path(name), store.open(name)
        self.size = self.file.size()
        tail = self.file.read_at(TAIL, max(self.size - TAIL, 0))
        self.mark, self.count = tail[:8], int.from_bytes(tail[8:16], "little")
        good = tail[16:] == MAGIC and 0 <= self._table() < self.size
        need(good, f"{self.name} is no file of rows", error=DataError)

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _table(self) -> int:
        """Where the offsets begin."""
        return self.size - TAIL - 16 * (self.count + 1)

    def offsets(self, place: int) -> list[list[int]]:
        """[[first byte of a place's slice, the same without packing], the same of the next place]."""
        raw = self.file.read_at(32 if place < self.count else 16, self._table() + 16 * place)
        return np.frombuffer(raw, np.int64).reshape(-1, 2).tolist()

    def schema(self) -> pa.Schema:
        [[start, _]] = self.offsets(self.count)
        return pa.ipc.read_schema(pa.py_buffer(self.file.read_at(self._table() - start, start)))

    def slice_bytes(self, place: int) -> int:
        """What a place's slice takes in memory."""
        (_, first), (_, last) = self.offsets(place)
        return last - first

    def slice(self, place: int, schema: pa.Schema, mark: bytes) -> pa.RecordBatch | None:
        """The rows of a place; `mark` is of the file that the schema was read from."""
        (first, _), (last, _) = self.offsets(place)
        if first == last:
            return None
        fix = "run again: what no longer hashes to its receipt is made anew"
        same = mark == self.mark
        need(same, f"{self.name}: its rows have other columns than those of its neighbours", error=DataError)
        try:
            plain = _unpacker().decompress(self.file.read_at(last - first, first))
            return pa.ipc.read_record_batch(plain, schema)
        except (zstandard.ZstdError, pa.ArrowInvalid, OSError, MemoryError) as problem:
            raise DataError(f"{self.name} is damaged: {problem}\n  try: {fix}") from None


def read_place(store: Store, names: Sequence[str], place: int) -> pa.Table:
    """All rows that go to one place, in the order of the files."""
    return next(_shares(store, names, place, 0, 0))


def read_all(store: Store, name: str) -> pa.Table:
    """All rows of one file."""
    with Rows(store, name) as rows:
        schema = rows.schema()
        return _joined([rows.slice(place, schema, rows.mark) for place in range(rows.count)], schema)


def sorted_shares(
    store: Store, names: Sequence[str], place: int, partitions: int, most: int
) -> Iterator[pa.Table]:
    """The rows of a partition sorted by key, file and row: in shares of the keys of about `most` bytes.

    A partition that is too large is read again for every share: memory stays, reading grows.
    """
    held, total, schema, mark = [], 0, None, b""
    for name in names:
        with Rows(store, name) as rows:
            schema, mark = (schema, mark) if schema else (rows.schema(), rows.mark)
            total += rows.slice_bytes(place)
            if total <= most:  # as nearly always: read at once
                held.append(rows.slice(place, schema, mark))
            else:
                held.clear()
    tables = iter([_joined(held, schema)])
    if total > most:
        bits = min(max(total - 1, 0) // most, 2**15).bit_length()
        tables = _shares(store, names, place, partitions.bit_length() - 1, bits)
    for table in tables:
        yield table.take(pa.array(key_order(keys_of(table))))


def _joined(batches: Sequence[pa.RecordBatch | None], schema: pa.Schema) -> pa.Table:
    found = [batch for batch in batches if batch is not None and len(batch)]
    return pa.Table.from_batches(found, schema).combine_chunks()


def _shares(store: Store, names: Sequence[str], place: int, skip: int, bits: int) -> Iterator[pa.Table]:
    with Rows(store, names[0]) as rows:
        schema, mark = rows.schema(), rows.mark
    for share in range(1 << bits):
        batches = []
        for name in names:
            with Rows(store, name) as rows:
                batch = rows.slice(place, schema, mark)
            if batch is not None and bits:
                keys = batch["key"].to_numpy(zero_copy_only=False)
                batch = batch.filter(pa.array(key_bits(keys, skip, bits) == share))
            batches.append(batch)
        yield _joined(batches, schema)
