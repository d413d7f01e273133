"""What a run leaves for the next one: rounds over the documents that it kept, whose results are saved."""

from pathlib import Path

import pyarrow as pa

from puna.data.dedup.earlier import save
from puna.data.dedup.exact import SameText
from puna.data.dedup.near import NearCopies
from puna.data.dedup.order import begins, best_first, id_key, standing
from puna.data.dedup.urls import SameAddress
from puna.data.rounds import Round
from puna.data.stage import Stage


class Index(Stage):
    """The index of a run: each round's name is the kind, each partition of its results a file.

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

    def rounds(self) -> tuple[Round, ...]:
        made = []
        if self.urls:
            made.append(Round("urls", self.urls.emit, _best))
        if self.exact:
            made.append(Round("exact", self.exact.emit, _best))
        if self.near:
            made += [Round("bands", self.near.emit, _best), Round("texts", self.texts, _best)]
        return tuple(made)

    def save(self, folder: Path, kind: str, partition: int, rows: pa.Table) -> None:
        """Write what a round said of a share of the keys."""
        made_by = {"urls": self.urls, "exact": self.exact, "bands": self.near, "texts": self.near}[kind]
        assert made_by
        save(folder, kind, partition, rows, made_by.terms())

    def texts(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """The texts that later documents may be compared with."""
        assert self.near
        table = self.near.cut(table)
        table = table.filter(pa.array(self.near.signed(table)[1]))
        key = pa.array(id_key(table["id"]))
        return pa.table({"key": key, **standing(table, shard, self.near.priority), "text": table["text"]})


def _best(rows: pa.Table) -> pa.Table:
    """The best document of each key."""
    same = [name for name in ("key", "rest") if name in rows.column_names]
    rows = best_first(rows, *same)
    return rows.filter(pa.array(begins(rows, *same))).drop_columns(["shard"])
