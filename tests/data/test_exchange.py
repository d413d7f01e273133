"""Rows come out of an exchange sorted by key, then by where they were emitted: all of them, once, in any layout."""

import resource

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.exchange import (
    Rows,
    by_partition,
    by_shard,
    key_bits,
    key_order,
    read_all,
    read_place,
    sorted_shares,
    write_rows,
)
from puna.data.store import Store
from puna.errors import DataError


def written(store: Store, name: str, table: pa.Table, partitions: int) -> str:
    places = by_partition(table, partitions, "a test")
    with store.writing(name) as sink:
        write_rows(sink, table, places, partitions)
    return name


def rows_of(keys, task: int) -> pa.Table:
    row = np.arange(len(keys), dtype=np.uint32)
    text = pa.array([f"row {n} of {task}" for n in range(len(keys))], pa.string())
    return pa.table(
        {"key": pa.array(keys, pa.uint64()), "task": np.full(len(keys), task), "row": row, "text": text}
    )


KEYS = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 9)), max_size=40)


@settings(max_examples=25, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=4), st.sampled_from([1, 2, 16]), st.sampled_from([900, 1 << 20]))
def test_every_row_arrives_once_in_the_order_promised(tmp_path_factory, tasks, partitions, most):
    store = Store.at(tmp_path_factory.mktemp("exchange"))
    names = [written(store, f"{n}.rows", rows_of(keys, n), partitions) for n, keys in enumerate(tasks)]
    found = []
    for place in range(partitions):
        for table in sorted_shares(store, names, place, partitions, most):
            said = [tuple(row[name] for name in ("key", "task", "row", "text")) for row in table.to_pylist()]
            assert said == sorted(said, key=lambda row: row[:3])
            assert not {row[0] for row in said} & {row[0] for row in found}, "a key is in two shares"
            found += said
    everything = [(k, n, i, f"row {i} of {n}") for n, keys in enumerate(tasks) for i, k in enumerate(keys)]
    assert sorted(found) == sorted(everything)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(2**60, 2**60 + 3))),
    st.integers(0, 2**20),
)
def test_the_order_of_keys_is_the_stable_one(keys, seed):
    drawn = np.random.default_rng(seed).integers(0, 2**33, 300, np.uint64)  # many agree in their upper halves
    both = np.concatenate([np.array(keys, np.uint64), drawn])
    assert (key_order(both) == np.argsort(both, kind="stable")).all()


def test_a_slice_in_which_a_byte_changed_is_damaged(tmp_path):
    store = Store.at(tmp_path)
    written(store, "0.rows", rows_of(list(range(100)), 0), 1)
    data = (tmp_path / "0.rows").read_bytes()
    with Rows(store, "0.rows") as rows:
        end = rows.offsets(rows.count)[0][0]
    for at in range(0, end, 7):
        changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        (tmp_path / "0.rows").write_bytes(changed)
        with pytest.raises(DataError, match=r"0.rows is damaged.*\n  try: run again"):
            read_place(store, ["0.rows"], 0)


def test_small_numbers_spread_over_partitions_too():
    places = key_bits(np.arange(4096, dtype=np.uint64), 0, 4)
    assert np.bincount(places, minlength=16).min() > 200


def test_results_go_to_their_shards_in_order(tmp_path):
    store, table = (
        Store.at(tmp_path),
        pa.table({"shard": pa.array([2, 0, 2, 1], pa.uint32()), "n": [1, 2, 3, 4]}),
    )
    places = by_shard(table, 4, "a test")
    with store.writing("some.rows") as sink:
        write_rows(sink, table, places, 4)
    assert [read_place(store, ["some.rows"] * 2, shard)["n"].to_pylist() for shard in range(4)] == [
        [2, 2], [4, 4], [1, 3, 1, 3], [],
    ]  # fmt: skip
    assert read_all(store, "some.rows")["n"].to_pylist() == [2, 4, 1, 3]
    with pytest.raises(DataError, match="names a shard above 1"):
        by_shard(table, 2, "a test")


def test_rows_without_a_key_and_files_that_are_none_are_named(tmp_path):
    store = Store.at(tmp_path)
    with pytest.raises(DataError, match="a test: emits no uint64 column `key`"):
        by_partition(pa.table({"key": [1, 2]}), 4, "a test")
    store.put("none.rows", b"what is this?")
    with pytest.raises(DataError, match=r"none.rows is no file of rows"):
        Rows(store, "none.rows")
    names = [
        written(store, "0.rows", rows_of([1], 0), 1),
        written(store, "1.rows", rows_of([1], 1).drop(["text"]), 1),
    ]
    with pytest.raises(DataError, match="other columns than those of its neighbours"):
        read_place(store, names, 0)


@pytest.mark.slow
def test_fifty_million_keys_are_grouped_within_bounded_memory(tmp_path):
    store, count, tasks, partitions = Store.at(tmp_path), 50_000_000, 50, 64
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for task in range(tasks):
        keys = np.random.default_rng(task).integers(0, 2**24, count // tasks, np.uint64) * np.uint64(
            2**40 + 1
        )
        table = pa.table({"key": keys, "row": np.arange(len(keys), dtype=np.uint64) + task * len(keys)})
        written(store, f"{task}.rows", table, partitions)
    rows = groups = 0
    for place in range(partitions):
        for table in sorted_shares(
            store, [f"{task}.rows" for task in range(tasks)], place, partitions, 16 << 20
        ):
            keys = table["key"].to_numpy()
            assert (keys[1:] >= keys[:-1]).all()
            rows, groups = rows + len(keys), groups + int(np.count_nonzero(np.diff(keys)) + (len(keys) > 0))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{groups:,} groups, {held // 1024} MB more than before")
    assert rows == count and groups == pytest.approx(2**24 * (1 - np.exp(-count / 2**24)), rel=0.001)
    assert held < 400 * 1024
