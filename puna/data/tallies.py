"""What went where, summed over a whole run: tallies are small tables of counts that each task leaves.

They are read one after the other and never held together. Columns that may hold anything (languages,
domains, licences) are cut to their most frequent values, the rest is summed as OTHERS, so what comes out is
small however large the run was.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from puna.data.parquet import read_table
from puna.data.receipts import Receipt
from puna.data.store import Store
from puna.data.tally import COUNTS, TALLY, summed

OTHERS = "(others)"
MOST = {"lang": 200, "domain": 50, "licence": 60, "optout": 30}  # values that are told apart
FUNNEL = ("stage", "reason", "lang", "domain")
SIDES = ("source", "licence", "optout")  # told by stage and reason, but not crossed with the others
TOGETHER = 256  # tallies that are read before they are summed
HELD = 1 << 20  # rows that a sum holds before it is grouped again, and values that stay in the race


class Sums:
    """Rows of equal keys added up, as they come; of a race, which has a `most`, only the leaders stay."""

    def __init__(self, keys: Sequence[str], most: int | None = None):
        self.keys, self.most = tuple(keys), most
        self.held: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        self.held.append(summed(table, self.keys))
        self.rows += len(self.held[-1])
        if self.rows > HELD:
            self.held = [self.table()]
            self.rows = len(self.held[0])

    def table(self) -> pa.Table:
        """Sorted by the keys; of a race the most frequent first."""
        found = summed(
            pa.concat_tables([TALLY.empty_table().select([*self.keys, *COUNTS]), *self.held]), self.keys
        )
        if self.most is None:
            return found
        order = [("documents", "descending"), *((key, "ascending") for key in self.keys)]
        return found.sort_by(order).slice(0, self.most)


def tally_names(receipts: Iterable[Receipt]) -> list[str]:
    return [output.name for receipt in receipts for output in receipt.outputs if "/tally/" in output.name]


def most_frequent(store: Store, names: Sequence[str], domains: int) -> dict[str, pa.Array]:
    """For each open column the values that are told apart, by documents: counted over these tallies."""
    most = MOST | {"domain": domains}
    races = {name: Sums([name], HELD // 2) for name in most}
    for table in _read(store, names, [*most, *COUNTS]):
        for race in races.values():
            race.add(table)
    return {key: races[key].table()[key].combine_chunks().slice(0, many) for key, many in most.items()}


def _read(store: Store, names: Sequence[str], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The tallies, many small ones as one table."""
    held, rows = [], 0
    for name in names:
        held.append(read_table(store, name, columns))
        rows += len(held[-1])
        if len(held) == TOGETHER or rows > HELD:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)


def counted(
    store: Store, receipts: Sequence[Receipt], told: dict[str, pa.Array]
) -> dict[str, list[dict[str, Any]]]:
    """The counts of one step: "funnel" by stage, reason, language, domain, and by each of SIDES."""
    sums = {"funnel": Sums(FUNNEL)} | {side: Sums(("stage", "reason", side)) for side in SIDES}
    for table in _read(store, tally_names(receipts)):
        for column, values in told.items():
            at = table.column_names.index(column)
            known = pc.is_in(table[column], value_set=values)
            table = table.set_column(at, column, pc.if_else(known, table[column], pa.scalar(OTHERS)))
        for one in sums.values():
            one.add(table)
    return {key: one.table().to_pylist() for key, one in sums.items()}


def total(
    rows: Iterable[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool] = lambda row: True
) -> dict[str, int]:
    """{"documents", "bytes", "tokens"} of the rows that are wanted."""
    found = dict.fromkeys(COUNTS, 0)
    for row in filter(wanted, rows):
        for name in COUNTS:
            found[name] += row[name]
    return found
