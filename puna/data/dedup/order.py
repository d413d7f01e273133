"""Who stays when documents say the same: a total order, so that no run and no worker can choose otherwise.

Higher priority first (a column of the recipe's choice), then the longer text, the later date, the smaller
id. Rows that compete carry these columns; here they are made, sorted, grouped and turned into DECISIONS.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.rounds import DECISIONS
from puna.data.stage import KEEP
from puna.errors import DataError, need

EARLIER = 2**32 - 1  # the shard of documents that an earlier run kept: nothing is decided about them
_ORDER = [
    ("priority", "descending"),
    ("length", "descending"),
    ("date", "descending"),
    ("id", "ascending"),
    ("shard", "ascending"),
]


def standing(table: pa.Table, shard: int, priority: str = "") -> dict[str, pa.Array]:
    """What a document brings to a comparison: where it is, its id, and its place in the total order."""
    ranks = np.zeros(len(table))
    if priority:
        need(priority in table.column_names, f"no column {priority!r} to rank by", error=DataError)
        ranks = table[priority].cast(pa.float64()).fill_null(-np.inf).to_numpy()
        ranks = np.where(np.isnan(ranks), -np.inf, ranks)
    lengths = pa.array(np.zeros(len(table), np.int64))
    if "text" in table.column_names:
        lengths = pc.binary_length(table["text"]).cast(pa.int64())
    return {
        "shard": pa.array(np.full(len(table), shard, np.uint32)),
        "id": table["id"],
        "priority": pa.array(ranks),
        "length": lengths,
        "date": _moment(table["date"]),
    }


def _moment(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    """ISO 8601 as a number that sorts alike: 2026-11 is 20261100000000, no date is 0."""
    digits = pc.utf8_slice_codeunits(pc.replace_substring_regex(dates, "[^0-9]", ""), 0, 14)
    return pc.utf8_rpad(digits, 14, "0").cast(pa.int64())


def best_first(rows: pa.Table, *same: str) -> pa.Table:
    """The rows grouped by the columns `same`, within a group the one that stays first."""
    return rows.sort_by([*((name, "ascending") for name in same), *_ORDER])


def begins(rows: pa.Table, *same: str) -> np.ndarray:
    """(rows,) bool: True where a new group of the sorted columns `same` begins."""
    new = np.zeros(len(rows), bool)
    new[:1] = True
    for name in same:
        column = rows[name].combine_chunks()
        new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return new


def crowded(rows: pa.Table, *same: str) -> pa.Table:
    """The rows of groups of two and more; `rows` is sorted by the columns `same`."""
    new = begins(rows, *same)
    alone = new & np.append(new[1:], True)
    return rows.filter(pa.array(~alone))


def halves(ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(rows, 2) uint64: ids of 16 bytes as two numbers that sort as the bytes do."""
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    raw = np.frombuffer(array.buffers()[1] or b"", ">u8", count=2 * len(array), offset=16 * array.offset)
    return raw.reshape(-1, 2).astype(np.uint64)  # (N, 2)


def binary16(values: list[bytes]) -> pa.Array:
    return pa.array(values, pa.binary(16))


def id_key(ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(rows,) uint64: a key that brings rows of one id together and spreads ids evenly."""
    high, low = halves(ids).T
    return mix(high ^ mix(low))


def mix(x: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of x (uint64): a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draws(seed: int, count: int) -> np.ndarray:
    """(count,) uint64: numbers that look random and follow from the seed alone."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mix(steps + np.uint64(seed % 2**64))


def decisions(shard, ids, codes, values, siblings) -> pa.Table:
    """A table of DECISIONS from columns."""
    columns = [shard, ids, np.asarray(codes, np.int16), np.asarray(values, np.float32), siblings]
    return pa.table(columns, schema=DECISIONS)


def one_survivor(rows: pa.Table) -> pa.Table:
    """DECISIONS over copies, equal in `key` and `rest`: the best stays, with the number of copies noted."""
    rows = crowded(rows.sort_by([("key", "ascending"), ("rest", "ascending")]), "key", "rest")
    rows = best_first(rows, "key", "rest")
    new = begins(rows, "key", "rest")
    group = np.cumsum(new) - 1  # (N,)
    sizes, heads = np.bincount(group, minlength=0)[group], np.flatnonzero(new)[group]
    siblings = rows["id"].take(pa.array(heads))
    told = new | pc.not_equal(rows["id"], siblings).to_numpy()  # one id twice in a run is one document
    shards = rows["shard"].to_numpy()
    told = (told | (shards[heads] == EARLIER)) & (shards != EARLIER)
    codes = np.where(new, KEEP, 0)
    return decisions(rows["shard"], rows["id"], codes, sizes, siblings).filter(pa.array(told))
