"""Rounds run in memory exactly as `puna.data.stage.Round` specifies them: what the engine does without files."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.rounds import DECISIONS
from puna.data.stage import KEEP


def run(stage, shards, partitions=4):
    """The results of a stage's last round, and of every round by name as one table a partition."""
    results = {}
    for step in stage.rounds():
        inputs = shards if step.reads == "documents" else results[step.reads]
        emitted = []
        for number, table in enumerate(inputs):
            side = None
            if step.side:
                told = pa.concat_tables(results[step.side])
                side = told.filter(pc.equal(told["shard"], number))
            emitted.append(step.emit(table, number, side))
        rows = pa.concat_tables(emitted)
        keys = rows["key"].to_numpy()
        rows, keys = rows.take(pa.array(np.argsort(keys, kind="stable"))), np.sort(keys, kind="stable")
        ends = np.searchsorted(keys.astype(np.float64) / 2.0**64, np.arange(partitions + 1) / partitions)
        ends[-1] = len(keys)
        shares = [rows.slice(a, b - a) for a, b in pairwise(ends)]
        results[step.name] = [step.reduce(share) for share in shares]
    return pa.concat_tables(results[step.name]), results


def finished(stage, shards, folder, partitions=4):
    """What an ending writes, each finish into the place that its step has in a run's folder."""
    for finish in stage.finishes():
        rows = pa.concat_tables([finish.emit(table, number, None) for number, table in enumerate(shards)])
        places = (rows["key"].to_numpy().astype(np.float64) / 2.0**64 * partitions).astype(int)
        files = folder / f"09-{finish.name}" / "files"
        for place in range(partitions):
            finish.write(rows.filter(pa.array(places == place)), place, files)


def decided(stage, shards, partitions=4):
    """({id: (reason, value, sibling)} of documents that go, {id: note} of those that stay with one)."""
    told = run(stage, shards, partitions)[0]
    assert told.schema.equals(DECISIONS)
    rows = told.to_pylist()
    where = {i: number for number, table in enumerate(shards) for i in table["id"].to_pylist()}
    assert all(where[row["id"]] == row["shard"] for row in rows), "a decision went to the wrong shard"
    gone = {r["id"]: (stage.reasons[r["code"]], r["value"], r["sibling"]) for r in rows if r["code"] != KEEP}
    assert len(gone) == sum(r["code"] != KEEP for r in rows), "a document was dropped twice"
    return gone, {r["id"]: r["value"] for r in rows if r["code"] == KEEP}


def survivors(shards, gone):
    return [
        table.filter(pa.array([i not in gone for i in table["id"].to_pylist()], pa.bool_()))
        for table in shards
    ]


def edited(stage, shards, partitions=4):
    """The shards as an Edit leaves them."""
    told = run(stage, shards, partitions)[0]
    return [
        stage.apply(table, told.filter(pc.equal(told["shard"], number)))
        for number, table in enumerate(shards)
    ]


def dealt(rows, count, rng=None):
    """The documents in `count` shards, in order or shuffled."""
    places = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
    return [rows.take(pa.array(part)) for part in np.array_split(places, count)]
