"""What a stage of the pipeline is: a frozen setting, called with a table, that answers without side effects.

An Annotation adds columns. A Gate says for each row why it is dropped, or that it stays; the engine drops.
Stages for which documents must meet are in rounds.py.
Names, versions and settings make the fingerprint that decides whether what is on disk still holds: raise
`version` when the code begins to answer differently.
"""

import hashlib
import json
from dataclasses import dataclass
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


class Range(Settings):
    """Numbers from `least` up to, not with, `below`."""

    least: float | None = None
    below: float | None = None


Where = dict[str, tuple[str, ...] | Range]  # column -> one of these names, or in this range


class Stage(Settings):
    """The settings of one stage; subclasses are an Annotation or a Gate."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)  # columns

    where: Where = {}  # only documents that fit take part; others pass by

    relation: ClassVar[str] = "filtered_by"  # to a run, of the files that it opens; see puna/lineage.py

    def opens(self) -> tuple[str, ...]:
        """Files and folders on whose content its answers depend."""
        return ()

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


def first_reason(rows: int, rules: list[tuple[np.ndarray, int, np.ndarray]]) -> Verdict:
    """The verdict of rules in order: each is (rows that break it, index of its reason, measured values)."""
    codes, values = np.full(rows, KEEP, np.int16), np.zeros(rows, np.float32)
    for broken, reason, measured in rules:
        new = broken & (codes == KEEP)
        codes[new], values[new] = reason, np.asarray(measured, np.float32)[new]
    return Verdict(codes, values)
