"""Stages for which documents must meet: in rounds, between which the engine regroups rows by a key.

A Removal drops documents for what others are, an Edit rewrites texts for what others say, a Survey measures
each by what all are, an Ending writes the files that a run is for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from puna.data.stage import Stage


@dataclass(frozen=True)
class Round:
    """One regrouping: rows are emitted, brought together by their key, and reduced partition by partition.

    emit(table, shard, side) -> rows with a uint64 column `key`. `table` is shard number `shard` of the
    documents, or, where `reads` names an earlier round, one partition of its results. `side`: those results
    of the earlier round that `side` names whose uint32 column `shard` is this shard's number; else None.
    reduce(rows) -> results: all rows of a share of the keys, sorted by key, then by where they were emitted.
    Both are pure and picklable: a function of a module, or a method of settings.
    """

    name: str
    emit: Callable[[pa.Table, int, pa.Table | None], pa.Table]
    reduce: Callable[[pa.Table], pa.Table]
    reads: str = "documents"
    side: str | None = None


@dataclass(frozen=True)
class Finish:
    """The end of a pipeline: rows come together as in a Round, and files are written of them.

    emit is a Round's, of documents. Keys are hashes, and their order is the order of what is written:
    partition p of 2^b holds the keys whose first b bits, as they are, make the number p.
    write(rows, partition, folder) -> the names of the files it wrote into this folder on a local disk; the
    same bytes in whatever order the rows come.
    """

    name: str
    emit: Callable[[pa.Table, int, pa.Table | None], pa.Table]
    write: Callable[[pa.Table, int, Path], list[str]]


class Ending(Stage):
    """A last stage of a recipe: it writes files of its own instead of documents. There may be several."""

    may_read: ClassVar[tuple[str, ...]] = ()  # columns that it reads where they are

    def finishes(self) -> tuple[Finish, ...]:
        raise NotImplementedError


class Removal(Stage):
    """Drops documents for what others are. The last round's results are DECISIONS."""

    reasons: ClassVar[tuple[str, ...]]

    def rounds(self) -> tuple[Round, ...]:
        raise NotImplementedError


class Edit(Stage):
    """Rewrites texts for what other documents say. The last round's results go to their column `shard`."""

    def rounds(self) -> tuple[Round, ...]:
        raise NotImplementedError

    def apply(self, table: pa.Table, side: pa.Table) -> pa.Table:
        """The rows of a shard with what the last round said of it taken out of `text`; none is left out."""
        raise NotImplementedError


class Survey(Stage):
    """Adds columns for what all documents are. The last round's results, whole, come to every shard."""

    def rounds(self) -> tuple[Round, ...]:
        raise NotImplementedError

    def learned(self, facts: pa.Table) -> Callable[[pa.Table], pa.Table]:
        """What is then asked of every table of documents: the same rows, with columns added."""
        raise NotImplementedError


DECISIONS = pa.schema(
    [
        pa.field("shard", pa.uint32(), nullable=False),  # where the document is
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("code", pa.int16(), nullable=False),  # index of the reason, or KEEP: a note only
        pa.field("value", pa.float32(), nullable=False),
        pa.field("sibling", pa.binary(16), nullable=False),  # the document kept in its place
    ]
)
