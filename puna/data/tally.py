"""How many documents, bytes and tokens stayed or went, by what can be asked of them: small, and counted while
they are in memory, so that no report ever reads texts to count.
"""

import pyarrow as pa
import pyarrow.compute as pc

KEYS = ("stage", "reason", "source", "lang", "domain", "licence", "optout")
COUNTS = ("documents", "bytes", "tokens")
TALLY = (
    pa.schema(  # stage and reason are "" of what stayed to the end of a step; "" is also what is not known
        [pa.field(name, pa.string(), nullable=False) for name in KEYS]
        + [pa.field(name, pa.int64(), nullable=False) for name in COUNTS]
    )
)
_TOGETHER = 1 << 16  # rows held before they are counted together


class Tally:
    """Counts as it is told."""

    def __init__(self) -> None:
        self.held: list[pa.Table] = []

    def add(self, rows: pa.Table, stage: str = "", reasons: pa.Array | None = None) -> None:
        """Rows that went in a stage, each for a reason; without one, rows that stayed."""
        if not len(rows):
            return
        columns = {
            "stage": pa.repeat(stage, len(rows)),
            "reason": pa.repeat("", len(rows)) if reasons is None else reasons,
            "source": rows["source"],
            "lang": _names(rows, "lang"),
            "domain": _names(rows, "domain" if "domain" in rows.column_names else "host"),
            "licence": _names(rows, "licence"),
            "optout": _names(rows, "optout"),
            "documents": pa.repeat(1, len(rows)),
            "bytes": pc.binary_length(rows["text"]),
            "tokens": tokens_of(rows),
        }
        self.held.append(summed(pa.table(columns).cast(TALLY)))
        if sum(map(len, self.held)) > _TOGETHER:
            self.held = [self.table()]

    def table(self) -> pa.Table:
        """All counts, in the order of their keys."""
        return summed(pa.concat_tables(self.held) if self.held else TALLY.empty_table())


def summed(table: pa.Table, keys: tuple[str, ...] = KEYS) -> pa.Table:
    """Counts by some of the keys."""
    groups = table.group_by(list(keys), use_threads=False).aggregate([(name, "sum") for name in COUNTS])
    groups = groups.rename_columns([*keys, *COUNTS]).sort_by([(name, "ascending") for name in keys])
    return groups.cast(pa.schema([TALLY.field(name) for name in (*keys, *COUNTS)]))


def tokens_of(rows: pa.Table) -> pa.Array | pa.ChunkedArray:
    """The length of each document in tokens, 0 where nothing has counted it."""
    if "tokens" not in rows.column_names or not pa.types.is_integer(rows["tokens"].type):
        return pa.repeat(0, len(rows))
    return pc.fill_null(rows["tokens"].cast(pa.int64()), 0)


def _names(rows: pa.Table, column: str) -> pa.Array | pa.ChunkedArray:
    if column not in rows.column_names:
        return pa.repeat("", len(rows))
    return pc.fill_null(rows[column].cast(pa.string()), "")
