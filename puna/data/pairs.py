"""Copies beside the documents kept for them, for a person to judge whether they are copies.

The two may lie in any files of a run. Only some files are looked into, and the pairs shown are among those of
which both halves are found there: enough in a small run, and in a large one still a fair sample.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna.data.glance import FILES, chosen, find, readable
from puna.data.receipts import Output, Receipt
from puna.data.store import Store

PAIRS = 5  # shown of a stage whose copies differ in how alike they are
ALIKE = 2  # of others
ROWS = 500_000  # copies, and as many kept ids, among which pairs are sought


def pairs(store: Store, receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """[{"gone": a document, "kept": its sibling, "reason", "value"}] of one step, the least alike first."""
    tasks = {o.name: r for r in receipts for o in r.outputs if "/dropped/" in o.name and o.rows}
    sidecars = chosen([o for r in receipts for o in r.outputs if o.name in tasks], FILES)
    copies = _copies(store, sidecars)
    beside = [output for one in sidecars for output in tasks[one.name].kept() if output.rows]
    kept, files, ids = _ids(
        store, [*beside, *chosen([o for r in receipts for o in r.kept() if o.rows], FILES)]
    )
    at = pc.index_in(copies["sibling"], value_set=ids)
    copies = copies.append_column("at", at).filter(pc.is_valid(at))
    copies = copies.sort_by([("value", "ascending"), ("id", "ascending")])
    many = pc.count_distinct(copies["value"]).as_py() > PAIRS
    found = []
    for row in copies.take(pa.array(_spread(len(copies), PAIRS if many else ALIKE), pa.int64())).to_pylist():
        before = [name for name in tasks[row["file"]].inputs if "/kept/" in name]
        texts = (find(store, name, row["id"]) for name in before)
        gone = next(filter(None, texts), None) or readable(pa.Table.from_pylist([row]))[0]
        other = find(store, kept[files[row["at"]]], row["sibling"])
        found.append({"gone": gone, "kept": other, "reason": row["reason"], "value": row["value"]})
    return found


def _spread(count: int, most: int) -> list[int]:
    """Places from the first to the last, evenly."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []


def _copies(store: Store, sidecars: Sequence[Output]) -> pa.Table:
    """The rows of sidecars that name a sibling, and the file each is of."""
    schema = [("id", pa.binary(16)), ("source", pa.string()), ("url", pa.string()), ("reason", pa.string()),
              ("value", pa.float32()), ("sibling", pa.binary(16)), ("file", pa.string())]  # fmt: skip
    held, rows = [pa.schema(schema).empty_table()], 0
    for one in sidecars:
        with store.open(one.name) as source:
            file = pq.ParquetFile(source)
            for group in range(file.num_row_groups):
                if rows > ROWS:
                    return pa.concat_tables(held)
                table = file.read_row_group(group, [name for name, _ in schema[:-1]])
                table = table.filter(pc.is_valid(table["sibling"]))
                table = table.append_column("file", pa.repeat(one.name, len(table)))
                held.append(table.cast(pa.schema(schema)))
                rows += len(table)
    return pa.concat_tables(held)


def _ids(store: Store, outputs: Sequence[Output]) -> tuple[list[str], np.ndarray, pa.Array]:
    """(names of files, the place of its file for each id, the ids): of the first files that hold ROWS."""
    names: list[str] = []
    sizes: list[int] = []
    parts = [pa.array([], pa.binary(16))]
    for name in dict.fromkeys(output.name for output in outputs):
        if sum(sizes) > ROWS:
            break
        with store.open(name) as source:
            ids = pq.ParquetFile(source).read(["id"])["id"].combine_chunks()
        names.append(name)
        sizes.append(len(ids))
        parts.append(ids)
    return names, np.repeat(np.arange(len(names)), sizes), pa.concat_arrays(parts)
