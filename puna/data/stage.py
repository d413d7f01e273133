"""What a stage of the pipeline is: a frozen setting, called with a table, that answers without side effects.

An Annotation adds columns. A Gate says for each row why it is dropped, or that it stays; the engine drops. A
Removal does so where that takes other documents: in rounds, between which the engine regroups rows by a key.
Names, versions and settings make the fingerprint that decides whether what is on disk still holds: raise
`version` when the code begins to answer differently.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from puna.settings import Settings

KEEP = -1


@dataclass(frozen=True)
class Verdict:
    """For each row the index of its reason in the gate's `reasons`, or KEEP, and the value measured."""

    codes: np.ndarray  # (rows,) int16
    values: np.ndarray  # (rows,) float32; of the rule that dropped it, else of no meaning


class Stage(Settings):
    """The settings of one stage; subclasses are an Annotation or a Gate."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)  # columns

    def fingerprint(self) -> str:
        """Of what this stage answers: its name, version and settings."""
        said = json.dumps([self.name, self.version, self.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


class Annotation(Stage):
    writes: ClassVar[dict[str, pa.DataType]] = {}  # the columns it adds

    def __call__(self, table: pa.Table) -> pa.Table:
        """The same rows with the columns of `writes` added."""
        raise NotImplementedError


class Gate(Stage):
    reasons: ClassVar[tuple[str, ...]]  # stable for ever: "quality.gopher.few_words"

    def __call__(self, table: pa.Table) -> Verdict:
        """Which rows go, why, and by what measure; rows in order, none left out."""
        raise NotImplementedError


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
    """The last stage of a recipe: it writes files of its own instead of documents."""

    may_read: ClassVar[tuple[str, ...]] = ()  # columns that it reads where they are

    def finish(self) -> Finish:
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


DECISIONS = pa.schema(
    [
        pa.field("shard", pa.uint32(), nullable=False),  # where the document is
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("code", pa.int16(), nullable=False),  # index of the reason, or KEEP: a note only
        pa.field("value", pa.float32(), nullable=False),
        pa.field("sibling", pa.binary(16), nullable=False),  # the document kept in its place
    ]
)


def first_reason(rows: int, rules: list[tuple[np.ndarray, int, np.ndarray]]) -> Verdict:
    """The verdict of rules in order: each is (rows that break it, index of its reason, measured values)."""
    codes, values = np.full(rows, KEEP, np.int16), np.zeros(rows, np.float32)
    for broken, reason, measured in rules:
        new = broken & (codes == KEEP)
        codes[new], values[new] = reason, np.asarray(measured, np.float32)[new]
    return Verdict(codes, values)
