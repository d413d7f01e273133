"""What a run leaves for the next one: of the documents that it kept, what later removals compare with."""

from functools import partial
from pathlib import Path

import pyarrow as pa

from puna.data.dedup.earlier import save
from puna.data.dedup.exact import SameText
from puna.data.dedup.near import NearCopies
from puna.data.dedup.order import begins, best_first, id_key, standing
from puna.data.dedup.urls import SameAddress
from puna.data.rounds import Ending, Finish


class Index(Ending):
    """The index of a run: a kind is a finish, each partition of its rows a file.

    The settings are those that the documents were compared by; None leaves that kind out.
    """

    name = "dedup.index"
    urls: SameAddress | None = SameAddress()
    exact: SameText | None = SameText()
    near: NearCopies | None = NearCopies()

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        made_by = [stage for stage in (self.urls, self.exact, self.near) if stage]
        return tuple(sorted({name for stage in made_by for name in stage.reads}))

    def finishes(self) -> tuple[Finish, ...]:
        made = []
        if self.urls:
            made.append(Finish(f"{self.name}.urls", self.urls.emit, partial(self.write, "urls")))
        if self.exact:
            made.append(Finish(f"{self.name}.exact", self.exact.emit, partial(self.write, "exact")))
        if self.near:
            made.append(Finish(f"{self.name}.bands", self.near.emit, partial(self.write, "bands")))
            made.append(Finish(f"{self.name}.texts", self.texts, partial(self.write, "texts")))
        return tuple(made)

    def write(self, kind: str, rows: pa.Table, partition: int, folder: Path) -> list[str]:
        """One file: the best document of each key."""
        made_by = {"urls": self.urls, "exact": self.exact, "bands": self.near, "texts": self.near}[kind]
        assert made_by
        same = [name for name in ("key", "rest") if name in rows.column_names]
        rows = best_first(rows, *same)
        rows = rows.filter(pa.array(begins(rows, *same))).drop_columns(["shard"])
        return [save(folder, kind, partition, rows, made_by.terms())]

    def texts(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The texts that later documents may be compared with."""
        assert self.near
        table = self.near.cut(table)
        table = table.filter(pa.array(self.near.signed(table)[1]))
        key = pa.array(id_key(table["id"]))
        return pa.table({"key": key, **standing(table, shard, self.near.priority), "text": table["text"]})
