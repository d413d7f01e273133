"""Crawls come one after another: each run leaves an index of what it kept, and the next reads it.

An index is a folder of sorted Arrow files, one folder a kind (`urls`, `exact`, `bands`: the rows that these
removals emit; `texts`: what near copies are verified against) and one file a partition. It is memory-mapped
and searched, never read whole: a reduce looks up its own keys, a shard the texts of its candidates. What an
earlier run kept wins, or with `rebase` stands in the total order like any other document.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from puna.data.dedup.order import EARLIER, begins, best_first
from puna.errors import DataError, need


def save(folder: Path, kind: str, partition: int, rows: pa.Table) -> None:
    """Write one partition of an index: emitted rows of documents that were kept, the best of each key."""
    same = [name for name in ("key", "rest") if name in rows.column_names]
    rows = best_first(rows, *same)
    rows = rows.filter(pa.array(begins(rows, *same))).drop_columns(["shard"]).combine_chunks()
    path = folder / kind / f"{partition:05d}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def find(folder: str, kind: str, keys: np.ndarray) -> pa.Table | None:
    """The rows of an index whose key is among the sorted `keys`; None where it holds none of this kind."""
    paths = sorted(Path(folder, kind).glob("*.arrow"))
    need(paths, f"{folder}: no index of {kind!r}", "the index folder of a finished run", error=DataError)
    found = [_matching(part, keys) for part in map(_open, paths) if len(part)]
    return pa.concat_tables(found) if found else None


def _open(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _matching(part: pa.Table, keys: np.ndarray) -> pa.Table:
    held = part["key"].combine_chunks().to_numpy()  # sorted; may repeat where `rest` differs
    first, last = np.searchsorted(keys, [held[0], held[-1]])
    asked = keys[first : last + 1]
    starts, stops = np.searchsorted(held, asked, "left"), np.searchsorted(held, asked, "right")
    return part.take(pa.array(_ranges(starts, stops)))


def _ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """All whole numbers from each start up to its stop, one after another."""
    sizes = stops - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())


def with_earlier(rows: pa.Table, folder: str, kind: str, rebase: bool) -> pa.Table:
    """The rows of a reduce, and of the index those that share a key with them, as shard EARLIER."""
    if not folder:
        return rows
    old = find(folder, kind, np.unique(rows["key"].to_numpy()))
    if old is None:
        return rows
    old = old.append_column("shard", pa.array(np.full(len(old), EARLIER, np.uint32)))
    if not rebase:
        at = old.column_names.index("priority")
        old = old.set_column(at, "priority", pa.array(np.full(len(old), np.inf)))
    return pa.concat_tables([rows, old.select(rows.column_names)]).sort_by("key")
