"""Where a document's score stands among those of the whole run: cuts by a share need no threshold.

[stage."score.rank"]
score = "web"          # reads q.web, writes q.web.rank: the share of documents that score less
by = "lang"            # among those of one language
[stage.cut]
score = "web.rank"
below = 0.3            # the best 70% stay
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from puna.data.classify.scores import NAME
from puna.data.rounds import Round, Survey
from puna.errors import DataError, need

BITS = 20  # of a float32, the highest: sign, exponent, and 1/2048 of the value
_COUNTS = pa.schema([("key", pa.uint64()), ("group", pa.string()), ("count", pa.int64())])


class Rank(Survey):
    """Adds `q.<score>.rank`, 0 up to 1; null where there is no score. Equal scores have equal ranks."""

    name = "score.rank"
    score: str = Field(pattern=f"^{NAME}$")
    by: str = ""  # a column of names: ranks among documents that share it

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"q.{self.score}", *filter(None, (self.by,)))

    def rounds(self) -> tuple[Round, ...]:
        return (Round("scores", self.emit, _sums),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """How many documents of the shard have each score, by group."""
        steps, groups = self._steps(table), self._groups(table)
        rows = pa.Table.from_arrays(
            [pa.array(np.maximum(steps, 0).astype(np.uint64)), groups, pa.repeat(1, len(table))],
            schema=_COUNTS,
        )
        return _sums(rows.filter(pa.array(steps >= 0)))

    def learned(self, facts: pa.Table) -> Callable[[pa.Table], pa.Table]:
        """Ranks from the counts of the run."""
        facts, known = facts.sort_by([("group", "ascending"), ("key", "ascending")]), {}
        for group in facts["group"].unique().to_pylist():
            mine = facts.filter(pc.equal(facts["group"], group))
            counts = mine["count"].to_numpy()
            known[group] = (
                mine["key"].to_numpy().astype(np.int64),
                (np.cumsum(counts) - counts) / counts.sum(),
            )
        return partial(self.ranked, known=known)

    def ranked(self, table: pa.Table, known: dict[str, tuple[np.ndarray, np.ndarray]]) -> pa.Table:
        steps, ranks = self._steps(table), np.zeros(len(table), np.float32)
        groups = np.array(self._groups(table).to_pylist(), object)
        for group, (keys, shares) in known.items():
            mine = (groups == group) & (steps >= 0)
            ranks[mine] = shares[np.searchsorted(keys, steps[mine])]
        return table.append_column(f"q.{self.score}.rank", pa.array(ranks, mask=steps < 0))

    def _steps(self, table: pa.Table) -> np.ndarray:
        """(rows,) int64: the score as a number that rises with it; -1: no score."""
        column = table[self.reads[0]]
        need(
            pa.types.is_floating(column.type),
            f"{self.name}: {self.reads[0]!r} holds no numbers",
            error=DataError,
        )
        values = np.asarray(column.cast(pa.float32()).to_numpy(), np.float32) + np.float32(0)  # -0 is 0
        bits = values.view(np.uint32).astype(np.int64)
        rising = np.where(bits >> 31, 0xFFFFFFFF - bits, bits | 1 << 31)
        return np.where(np.isnan(values), -1, rising >> (32 - BITS))

    def _groups(self, table: pa.Table) -> pa.Array | pa.ChunkedArray:
        if not self.by:
            return pa.repeat("", len(table))
        return pc.fill_null(table[self.by].cast(pa.string()), "")


def _sums(rows: pa.Table) -> pa.Table:
    sums = rows.group_by(["key", "group"], use_threads=False).aggregate([("count", "sum")])
    return (
        sums.rename_columns(_COUNTS.names)
        .cast(_COUNTS)
        .sort_by([("group", "ascending"), ("key", "ascending")])
    )
