"""Batches go through a chain of annotations and gates: what is kept, what is dropped, and why.

Mode `filter`: a gate's rows leave at once, later stages see fewer. Mode `annotate`: every gate runs, nothing
is dropped; its reason (null: it would stay) and its value become the columns `v.<gate>` and `v.<gate>.value`.
Only documents on which a stage fails leave in both modes.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.quarantine import Watch, isolate
from puna.data.rounds import Removal
from puna.data.stage import KEEP, Annotation, Gate, Stage, Verdict
from puna.data.tally import Tally
from puna.data.where import fits
from puna.errors import DataError, need

PLACE = "place among the rows"  # a column for the time that some rows are away
DROPPED = pa.schema(
    [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.float32()),  # what the rule measured
        pa.field("sibling", pa.binary(16)),  # the document kept in its place
        pa.field("text", pa.large_string()),  # of a sample of the documents
    ]
)


@dataclass
class Chain:
    """Stages, the mode, what is known of dangers; it counts as it goes."""

    stages: Sequence[Stage]
    mode: str
    sample: float  # share of dropped documents whose text is kept
    seed: int
    watch: Watch
    drops: Counter = field(default_factory=Counter)
    stage_s: dict[str, float] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    dropped: list[pa.Table] = field(default_factory=list)  # since it was last emptied

    def run(self, table: pa.Table) -> pa.Table:
        for stage in self.stages:
            start = time.process_time()
            table = self._where(stage, table, partial(self._wholly, stage))
            self.stage_s[stage.name] = self.stage_s.get(stage.name, 0.0) + time.process_time() - start
        return table

    def _wholly(self, stage: Stage, table: pa.Table) -> pa.Table:
        return self._gate(stage, table) if isinstance(stage, Gate) else self._annotate(stage, table)

    def _where(self, stage: Stage, table: pa.Table, call: Callable[[pa.Table], pa.Table]) -> pa.Table:
        """Documents that `where` does not name pass by: what an annotation had said of them is null."""
        if not stage.where:
            return call(table)
        named = fits(stage.where, table, stage.name)
        table = table.append_column(PLACE, pa.array(np.arange(len(table))))
        judged, passed = call(table.filter(pa.array(named))), table.filter(pa.array(~named))
        for new in judged.schema:
            if new.name not in passed.column_names:
                passed = passed.append_column(new.with_nullable(True), pa.nulls(len(passed), new.type))
        schema = passed.select(judged.column_names).schema
        both = pa.concat_tables([judged.cast(schema), passed.select(schema.names)])
        return both.sort_by(PLACE).drop_columns([PLACE])

    def _annotate(self, stage: Stage, table: pa.Table) -> pa.Table:
        assert isinstance(stage, Annotation)
        empty = with_columns(table.slice(0, 0), {n: pa.array([], t) for n, t in stage.writes.items()})
        answers = self._tables(stage, stage, table)
        return pa.concat_tables([answer for _, answer in answers]) if answers else empty

    def edit(self, stage: Stage, call: Callable[[pa.Table], pa.Table], table: pa.Table) -> pa.Table:
        """The rows after what the rounds of a stage have found is done to them."""
        return self._where(stage, table, partial(self._edited, stage, call))

    def _edited(self, stage: Stage, call: Callable[[pa.Table], pa.Table], table: pa.Table) -> pa.Table:
        answers = self._tables(stage, call, table)
        return pa.concat_tables([answer for _, answer in answers]) if answers else call(table.slice(0, 0))

    def _tables(self, stage: Stage, call: Callable[[pa.Table], Any], table: pa.Table) -> list:
        answers = self._ask(stage, call, table)
        for rows, answer in answers:
            good = isinstance(answer, pa.Table) and len(answer) == len(rows)
            need(good, f"{stage.name} does not answer with the rows it was given", error=DataError)
        return answers

    def _gate(self, gate: Gate, table: pa.Table) -> pa.Table:
        kept = []
        for rows, verdict in self._ask(gate, gate, table):
            good = isinstance(verdict, Verdict) and len(verdict.codes) == len(verdict.values) == len(rows)
            need(good, f"{gate.name} does not give one verdict a document", error=DataError)
            if self.mode == "annotate":
                kept.append(with_verdict(rows, gate, verdict.codes, verdict.values))
                continue
            self.drop(rows, gate, verdict.codes, verdict.values)
            kept.append(rows.filter(pa.array(verdict.codes == KEEP)))
        if kept:
            return pa.concat_tables(kept)
        nothing = np.zeros(0, np.int16), np.zeros(0, np.float32)
        empty = table.slice(0, 0)
        return with_verdict(empty, gate, *nothing) if self.mode == "annotate" else empty

    def _ask(self, stage: Stage, call: Callable[[pa.Table], Any], table: pa.Table) -> list:
        missing = [name for name in stage.reads if name not in table.column_names]
        need(not missing, f"{stage.name} reads the column {missing[:1]}, which no stage before it writes",
             "put the stage that writes it before it", DataError)  # fmt: skip
        answers, failed = isolate(stage, call, table, self.watch)
        if len(failed):
            reasons = pa.array([f"error.{stage.name}"] * len(failed))
            self._set_aside(failed, stage, reasons, None, None)
        return answers

    def drop(
        self,
        rows: pa.Table,
        stage: Gate | Removal,
        codes: np.ndarray,
        values: np.ndarray,
        siblings: pa.Array = None,
    ) -> None:
        """Write the rows that have a reason to the sidecar."""
        out = codes != KEEP
        if out.any():
            where = pa.array(out)
            reasons = pa.array(stage.reasons).take(pa.array(codes[out]))
            siblings = None if siblings is None else siblings.filter(where)
            self._set_aside(rows.filter(where), stage, reasons, pa.array(values[out], pa.float32()), siblings)

    def _set_aside(
        self, rows: pa.Table, stage: Stage, reasons: pa.Array, values: pa.Array, siblings: pa.Array
    ) -> None:
        self.drops.update(reasons.to_pylist())
        self.tally.add(rows, stage.name, reasons)
        shown = pa.array(sampled(rows["id"], self.seed, self.sample))
        columns = {
            **{name: rows[name] for name in ("id", "source", "url")},
            "stage": pa.array([stage.name] * len(rows)),
            "reason": reasons,
            "value": pa.nulls(len(rows), pa.float32()) if values is None else values,
            "sibling": pa.nulls(len(rows), pa.binary(16)) if siblings is None else siblings,
            "text": pc.if_else(shown, rows["text"], pa.scalar(None, pa.large_string())),
        }
        self.dropped.append(pa.table(columns).cast(DROPPED))


def with_columns(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """The table with columns set: replaced where they are, else added."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    return table


def with_verdict(
    rows: pa.Table, stage: Gate | Removal, codes: np.ndarray, values: np.ndarray, siblings: pa.Array = None
) -> pa.Table:
    """The columns of mode `annotate`; a stage that stands twice has its second ones as `v.<stage>.2`."""
    times = sum(column.rstrip("0123456789").rstrip(".") == f"v.{stage.name}" for column in rows.column_names)
    name = f"v.{stage.name}" + (f".{times + 1}" if times else "")
    reasons = pa.array(stage.reasons, pa.string()).take(pa.array(codes, mask=codes == KEEP))
    columns = {name: reasons, f"{name}.value": pa.array(values, pa.float32())}
    return with_columns(rows, columns if siblings is None else columns | {f"{name}.sibling": siblings})


def sampled(ids: pa.ChunkedArray, seed: int, share: float) -> np.ndarray:
    """(rows,) whether a document is in the sample: a hash of the seed and its id, so samples are nested."""
    heads = [hashlib.blake2b(b"%d\0%b" % (seed, name), digest_size=4).digest() for name in ids.to_pylist()]
    return np.frombuffer(b"".join(heads), np.uint32) < share * 2**32


def apply_decisions(chain: Chain, removal: Removal, rows: pa.Table, decisions: pa.Table) -> pa.Table:
    """The rows without those that a removal drops; notes become the column `n.<removal>`.

    Where an id has several decisions, one that drops beats a note, then the first counts.
    """
    order = np.argsort(decisions["code"].to_numpy() == KEEP, kind="stable")
    decisions = decisions.take(pa.array(order)).combine_chunks()
    at = pc.index_in(rows["id"], value_set=decisions["id"].combine_chunks()).combine_chunks()
    found = decisions.take(at)
    codes = pc.fill_null(found["code"], KEEP).to_numpy()
    values = pc.fill_null(found["value"], 0).to_numpy()
    siblings = found["sibling"].combine_chunks()
    noted = pa.array(
        values, pa.float32(), mask=(codes != KEEP) | pc.is_null(at).to_numpy(zero_copy_only=False)
    )
    rows = with_columns(rows, {f"n.{removal.name}": noted})
    if chain.mode == "annotate":
        siblings = pc.if_else(pa.array(codes != KEEP), siblings, pa.scalar(None, pa.binary(16)))
        return with_verdict(rows, removal, codes, values, siblings)
    chain.drop(rows, removal, codes, values, siblings)
    return rows.filter(pa.array(codes == KEEP))
