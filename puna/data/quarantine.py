"""One bad document never costs the others: it is found by halving and set aside with a reason.

A stage that raises on a batch is asked again about each half, down to the single documents that fail. A stage
that kills its process is asked again too, by the runner: the worker says which rows it is about to touch, and
every death narrows them (`Hunt`). The document is then written to the task's quarantine file, which any later
run of the same task obeys. The reason is `error.<stage>`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from puna.data.stage import Stage
from puna.data.store import Store
from puna.errors import DataError, need

POISON = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
JUDGED = 8  # of so many documents or more, a stage that fails on over half is itself at fault
DEATHS = 3  # in a place that cannot be halved
WAYS = 8  # a death costs a process: its rows are cut into so many parts, not halves
MOST = 64  # documents of one task that kill their process


@dataclass(frozen=True)
class Spot:
    """Rows first .. last - 1 of a batch, before a stage; no stage: while the batch is being read."""

    batch: int
    stage: str = ""
    first: int = 0
    last: int = 0
    id: str = ""  # of the row, where it is one


@dataclass
class Watch:
    """What a task knows of its dangers: documents known to kill, a spot to narrow, whom to tell."""

    poison: dict[str, set[bytes]] = field(default_factory=dict)  # stage -> ids
    narrow: Spot | None = None
    tell: Callable[[Spot], Any] | None = None
    batch: int = 0

    def reading(self, batch: int) -> None:
        self.batch = batch
        if self.tell:
            self.tell(Spot(batch))

    def spots(self, stage: str, table: pa.Table) -> Iterator[tuple[int, int]]:
        """The table in one range, or in more where it is being narrowed; each is told before it is tried."""
        edges = [0, len(table)]
        if self.narrow and (self.narrow.batch, self.narrow.stage) == (self.batch, stage):
            first, last = self.narrow.first, self.narrow.last
            cuts = [first + (last - first) * way // WAYS for way in range(WAYS + 1)]
            edges = sorted({0, *cuts, len(table)})
        for first, last in pairwise(edges):
            if self.tell:
                alone = table["id"][first].as_py().hex() if last - first == 1 else ""
                self.tell(Spot(self.batch, stage, first, last, alone))
            yield first, last


def isolate(
    stage: Stage, call: Callable[[pa.Table], Any], table: pa.Table, watch: Watch
) -> tuple[list[tuple[pa.Table, Any]], pa.Table]:
    """The rows that a stage could answer for, each run of them with its answer; and the rows it failed on."""
    known = watch.poison.get(stage.name, set())
    bad = np.array([name in known for name in table["id"].to_pylist()], bool) if known else None
    failed = [] if bad is None else [table.filter(pa.array(bad))]
    well = table if bad is None else table.filter(pa.array(~bad))
    answers: list[tuple[pa.Table, Any]] = []
    errors: list[tuple[pa.Table, Exception]] = []
    for first, last in watch.spots(stage.name, well):
        _halve(call, well.slice(first, last - first), answers, errors)
    rows = sum(len(rows) for rows, _ in errors)
    if len(table) >= JUDGED and rows > len(table) // 2:
        problem = f"{stage.name} fails on {rows:,} of {len(table):,} documents: {errors[-1][1]!r}"
        raise DataError(
            f"{problem}\n  try: mend the stage; single bad documents would be set aside"
        ) from errors[-1][1]
    return answers, pa.concat_tables([*failed, *(rows for rows, _ in errors), table.slice(0, 0)])


def _halve(call: Callable, table: pa.Table, answers: list, errors: list) -> None:
    if not len(table):
        return
    try:
        answers.append((table, call(table)))
    except POISON as problem:
        if len(table) == 1:
            errors.append((table, problem))
            return
        half = len(table) // 2
        _halve(call, table.slice(0, half), answers, errors)
        _halve(call, table.slice(half), answers, errors)


class Hunt:
    """Which document kills its worker? Told of each death and the last spot, it says what to try next."""

    def __init__(self) -> None:
        self.narrow: Spot | None = None
        self.deaths: Counter = Counter()
        self.poison: dict[str, set[bytes]] = {}

    def died(self, spot: Spot | None, task: str, how: str) -> bool:
        """Take in a death; True where that found a document to set aside."""
        self.deaths[spot] += 1
        alone = spot is not None and spot.id
        need(alone or self.deaths[spot] < DEATHS, self._sentence(spot, task, how), error=DataError)
        if spot is not None and spot.last - spot.first > 1:
            self.narrow = spot
        if spot is None or not alone or self.deaths[spot] < 2:
            return False
        self.poison.setdefault(spot.stage, set()).add(bytes.fromhex(spot.id))
        self.narrow = None
        self.deaths.clear()
        most = f"{task}: over {MOST} documents kill {spot.stage}"
        need(sum(map(len, self.poison.values())) <= MOST, most, "mend the stage", DataError)
        return True

    def _sentence(self, spot: Spot | None, task: str, how: str) -> str:
        during = f"{spot.stage or 'reading'}, batch {spot.batch}" if spot else "no single document"
        fix = "--runner inline, to see why"
        return f"{task}: its process died {DEATHS} times ({how}) over {during}\n  try: {fix}"


def quarantine_name(task: str) -> str:
    step, _, number = task.rpartition("/")
    return f"{step}/quarantine/{number}.json"


def read_poison(store: Store, task: str, spec_hash: str) -> dict[str, set[bytes]]:
    """Stage -> ids known to kill it in this task, as it is now."""
    try:
        said = json.loads(store.read(quarantine_name(task)) or b"{}")
    except ValueError:  # damaged: they will be found again
        return {}
    if said.get("spec_hash") != spec_hash:
        return {}
    return {stage: {bytes.fromhex(name) for name in names} for stage, names in said["poison"].items()}


def write_poison(store: Store, task: str, spec_hash: str, poison: dict[str, set[bytes]]) -> None:
    plain = {stage: sorted(name.hex() for name in names) for stage, names in poison.items()}
    said = json.dumps({"spec_hash": spec_hash, "poison": plain}, indent=1)
    store.put(quarantine_name(task), said.encode())
