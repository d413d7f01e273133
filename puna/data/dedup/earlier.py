"""Crawls come one after another: each run leaves an index of what it kept, and the next ones read it.

An index is sorted Arrow files, a folder for each kind (`urls`, `exact`, `bands`: the rows that these removals
compare; `texts`: what near copies are verified against) and a file for each partition; index.py makes it, and
the run's folder is how it is named. It is memory-mapped and searched, never read whole: a reduce looks up its
own keys, a shard the texts of its candidates. What an earlier run kept wins, or with `rebase` stands in the
total order like any other.
"""

import hashlib
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from puna.data.dedup.order import EARLIER
from puna.data.rounds import Removal
from puna.errors import DataError, need
from puna.kernels.text import REVISION


class Crawl(Removal):
    """The settings of a removal that knows what earlier runs kept."""

    earlier: tuple[str, ...] = ()  # the folders of earlier runs that end in dedup.index
    rebase: bool = False  # what earlier runs kept takes part in the total order, and may lose
    keyed: ClassVar[tuple[str, ...]]  # the settings that keys are made by

    relation = "deduplicated_against"

    def opens(self) -> tuple[str, ...]:
        return self.earlier

    def terms(self) -> str:
        """The settings that an index must have been made by, to be of use."""
        said = self.model_dump(mode="json", include=set(self.keyed))
        return json.dumps(said | {"words": REVISION}, sort_keys=True)

    def with_earlier(self, rows: pa.Table, kind: str) -> pa.Table:
        """The rows of a reduce, and of the indexes those that share a key with them, as shard EARLIER."""
        if not self.earlier:
            return rows
        keys = rows["key"].to_numpy()
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]  # rows come sorted by key
        old = pa.concat_tables([find(folder, kind, keys, self.terms()) for folder in self.earlier])
        if not self.rebase:
            at = old.schema.get_field_index("priority")
            old = old.set_column(at, old.schema.field(at), pa.array(np.full(len(old), np.inf)))
        old = old.append_column("shard", pa.array(np.full(len(old), EARLIER, np.uint32)))
        return pa.concat_tables([rows, old.select(rows.column_names).cast(rows.schema)]).sort_by("key")

    def fingerprint(self) -> str:
        """Of the settings, and of what the indexes hold."""
        said = [super().fingerprint().encode()]
        for path in sorted(path for folder in self.earlier for path in _files(folder, "*")):
            said.append((_open(path).schema.metadata or {}).get(b"content", b""))
        return hashlib.sha256(b"".join(said)).hexdigest() if self.earlier else super().fingerprint()


def save(folder: Path, kind: str, partition: int, rows: pa.Table, terms: str) -> str:
    """Write one partition of an index, and name the file; `rows` are sorted by `key`, made by `terms`."""
    name = f"{kind}/{partition:05d}.arrow"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = rows.combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    content = hashlib.sha256(sink.getvalue()).hexdigest()
    rows = rows.replace_schema_metadata({"content": content, "terms": terms})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return name


def find(folder: str, kind: str, keys: np.ndarray, terms: str) -> pa.Table:
    """The rows of an index, made by the settings `terms`, whose key is among the sorted `keys`."""
    paths = _files(folder, kind)
    fix = "the folder of a run whose recipe ends in dedup.index"
    need(paths, f"{folder}: holds no index of {kind!r}", fix, error=DataError)
    found = []
    for path in paths:
        part = _open(path)
        made_by = (part.schema.metadata or {}).get(b"terms", b"").decode()
        need(
            made_by == terms, f"{path}: made by {made_by}, not by {terms}", "equal settings", error=DataError
        )
        found.append(_matching(part, keys).replace_schema_metadata())
    return pa.concat_tables(found)


def _files(folder: str, kind: str) -> list[Path]:
    return sorted(Path(folder).glob(f"*-dedup.index.{kind}/files/{kind}/*.arrow"))


def _open(path: Path) -> pa.Table:
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid as problem:
        raise DataError(f"{path}: not an Arrow file: {problem}") from None


def _matching(part: pa.Table, keys: np.ndarray) -> pa.Table:
    held = part["key"].combine_chunks().to_numpy()
    first, last = np.searchsorted(keys, held[:1], "left"), np.searchsorted(keys, held[-1:], "right")
    asked = keys[first[0] : last[0]] if len(held) else keys[:0]
    starts, stops = np.searchsorted(held, asked, "left"), np.searchsorted(held, asked, "right")
    sizes = stops - starts  # a key may stand more than once: equal halves of longer hashes
    before = np.cumsum(sizes) - sizes
    return part.take(pa.array(np.repeat(starts - before, sizes) + np.arange(sizes.sum())))
