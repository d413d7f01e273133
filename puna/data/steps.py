"""A recipe becomes steps, a step becomes tasks, a task is a pure function of its inputs that writes files.

    Map      one task a piece of a source, or a shard: read, apply what rounds decided, run a chain of
             stages -> the kept documents and a sidecar of the dropped ones
    Emit     one task a shard, or a partition of an earlier round: a removal's rows, by partition of their key
    Write    one task a partition, after an Emit: the files of an ending, such as token shards
    Reduce   one task a partition: all rows of a share of the keys -> results, by the shard they are for

Between two steps there is a barrier: a step's tasks are known when the receipts of those before are there.
A task's `spec_hash` covers settings and versions of its stages and the hashes of what it reads.
"""

import lzma
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from puna.data.chain import DROPPED, Chain, apply_decisions
from puna.data.document import check
from puna.data.exchange import by_partition, by_shard, read_all, read_place, sorted_shares, write_rows
from puna.data.parquet import Writer, read_groups, read_schema, read_table, text_bytes
from puna.data.quarantine import Watch
from puna.data.receipts import Output, Receipt, digest, outputs_digest
from puna.data.recipe import Recipe
from puna.data.rounds import DECISIONS, Edit, Ending, Removal, Round
from puna.data.source import Source, described, piece_stamp
from puna.data.stage import Annotation, Gate, Stage
from puna.data.store import Store
from puna.errors import DataError, need

UNREADABLE = (OSError, ValueError, EOFError, LookupError, zlib.error, lzma.LZMAError, pa.ArrowException)
ENGINE = 1  # raise it when the engine begins to write other bytes for the same stages
Done = Mapping[str, Sequence[Receipt]]  # step -> receipts, in the order of its tasks


class PieceError(DataError):
    """A piece that cannot be read; the other ones are not concerned."""


@dataclass(frozen=True)
class Task:
    """Plain values, so it travels to any worker."""

    step: str
    number: int
    spec_hash: str
    inputs: dict[str, str]
    reads: str = ""  # a piece, or a file
    source: int = -1  # index of the piece's source
    files: int = 0  # how many files of rows it reads a slice of
    places: int = 0  # into how many places its rows go

    def __str__(self) -> str:
        return f"{self.step}/{self.number:06d}"


@dataclass
class Work:
    """What a task has done so far: the part of its receipt that is not about time."""

    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)


@dataclass(frozen=True)
class Map:
    name: str
    stages: tuple[Stage, ...]
    documents: str = ""  # the step whose kept shards it reads; none: the pieces of the sources
    removal: Removal | Edit | None = None
    decisions: str = ""  # the step that holds them

    def tasks(self, recipe: Recipe, done: Done) -> list[Task]:
        said: list = [
            recipe.mode,
            recipe.seed,
            recipe.sample,
            recipe.group_bytes,
            [s.fingerprint() for s in self.stages],
        ]
        if not self.documents:
            said.append(recipe.shard_bytes)
            pieces = [(i, piece) for i, source in enumerate(recipe.sources) for piece in source.inputs()]
            need(pieces, "the sources have no input", error=DataError)
            return [self._read(recipe, said, number, *found) for number, found in enumerate(pieces)]
        decided = {self.decisions: outputs_digest(done[self.decisions])} if self.removal else {}
        said.append(self.removal.fingerprint() if self.removal else "")
        files = len(done[self.decisions]) if self.removal else 0
        tasks = []
        for number, shard in enumerate(shards(done[self.documents])):
            inputs = {shard.name: shard.sha256} | decided
            hashed = digest([ENGINE, self.name, number, said, inputs])
            tasks.append(Task(self.name, number, hashed, inputs, shard.name, files=files))
        return tasks

    def _read(self, recipe: Recipe, said: list, number: int, source: int, piece: str) -> Task:
        inputs = {piece: piece_stamp(piece)}
        hashed = digest([ENGINE, self.name, number, said, described(recipe.sources[source]), inputs])
        return Task(self.name, number, hashed, inputs, piece, source)

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        source = recipe.sources[task.source] if task.source >= 0 else None
        chain = Chain(self.stages, recipe.mode, recipe.sample, recipe.seed, watch)
        stem = f"{self.name}/{{}}/{task.number:06d}"
        kept = Writer(store, stem.format("kept"), recipe.group_bytes, recipe.shard_bytes if source else None)
        dropped = Writer(store, stem.format("dropped"), recipe.group_bytes)
        try:
            work = self._through(_batches(source, store, task, watch), chain, kept, dropped, store, task)
            empty = None if source else self._empty(store, task, chain)
            work.outputs = [*kept.close(empty), *dropped.close(DROPPED)]
        finally:
            kept.discard()
            dropped.discard()
        work.drops, work.stage_s = dict(sorted(chain.drops.items())), dict(chain.stage_s)
        return work

    def _through(
        self,
        batches: Iterator[pa.Table],
        chain: Chain,
        kept: Writer,
        dropped: Writer,
        store: Store,
        task: Task,
    ) -> Work:
        work, decisions = Work(), DECISIONS.empty_table()
        if self.removal:
            decisions = read_place(store, rows_names(self.decisions, task.files), task.number)
        for batch in batches:
            work.rows_in += len(batch)
            batch = chain.run(self._decided(chain, batch, decisions))
            work.rows_out += len(batch)
            work.bytes += int(text_bytes(batch).sum())
            if len(batch):
                kept.add(batch)
            for table in chain.dropped:
                dropped.add(table)
            chain.dropped.clear()
        return work

    def _empty(self, store: Store, task: Task, chain: Chain) -> pa.Schema:
        """The columns of a shard of which nothing stayed."""
        table = read_schema(store, task.reads).empty_table()
        return chain.run(self._decided(chain, table, DECISIONS.empty_table())).schema

    def _decided(self, chain: Chain, table: pa.Table, decisions: pa.Table) -> pa.Table:
        """The rows after the rounds that came before: without what a removal drops, with an edit made."""
        if isinstance(self.removal, Edit):
            return chain.edit(self.removal, table, decisions)
        return apply_decisions(chain, self.removal, table, decisions) if self.removal else table


@dataclass(frozen=True)
class Emit:
    name: str
    removal: Removal | Edit | Ending
    round: Round
    documents: str  # the step whose kept shards count, and are read unless `results` is given
    results: str = ""  # the step of an earlier round whose partitions are read
    side: str = ""  # the step of an earlier round whose results come along, shard by shard

    def tasks(self, recipe: Recipe, done: Done) -> list[Task]:
        found = [r.outputs[0] for r in done[self.results]] if self.results else shards(done[self.documents])
        places = recipe.partitions_for(sum(receipt.bytes for receipt in done[self.documents]))
        side = {self.side: outputs_digest(done[self.side])} if self.side else {}
        files = len(done[self.side]) if self.side else 0
        said = [ENGINE, self.name, self.removal.fingerprint(), self.round.name, places]
        tasks = []
        for number, output in enumerate(found):
            inputs = {output.name: output.sha256} | side
            hashed = digest([*said, number, inputs])
            tasks.append(Task(self.name, number, hashed, inputs, output.name, files=files, places=places))
        return tasks

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        side = read_place(store, rows_names(self.side, task.files), task.number) if self.side else None
        if self.results:
            table = read_all(store, task.reads)
        else:
            ending = self.removal if isinstance(self.removal, Ending) else None
            wanted = {"id", "source", "url", "date", *self.removal.reads}
            names = read_schema(store, task.reads).names
            missing = sorted(wanted - set(names))
            need(not missing, f"{self.removal.name} reads the column {missing[:1]}, which no stage writes",
                 "put the stage that writes it before it", DataError)  # fmt: skip
            wanted |= set(ending.may_read) if ending else set()
            table = read_table(store, task.reads, [name for name in names if name in wanted])
        emitted = self.round.emit(table, task.number, side)
        where = f"{self.removal.name}: {self.round.name}"
        rows, places = by_partition(emitted, task.places, where, isinstance(self.removal, Ending))
        output = _rows_written(store, str(task), rows, places, task.places)
        return Work(rows_in=len(table), rows_out=len(rows), outputs=[output])


@dataclass(frozen=True)
class Reduce:
    name: str
    removal: Removal | Edit
    round: Round
    documents: str
    emitted: str  # the step that wrote the rows
    routed: bool  # its results go to shards: they are decisions, or come along as a side
    last: bool  # its results are the removal's decisions

    def tasks(self, recipe: Recipe, done: Done) -> list[Task]:
        inputs = {self.emitted: outputs_digest(done[self.emitted])}
        files, count = len(done[self.emitted]), len(shards(done[self.documents])) if self.routed else 0
        partitions = recipe.partitions_for(sum(receipt.bytes for receipt in done[self.documents]))
        said = [ENGINE, self.name, self.removal.fingerprint(), self.round.name, recipe.reduce_bytes, count]
        return [
            Task(
                self.name,
                n,
                digest([*said, n, inputs]),
                inputs,
                reads=str(partitions),
                files=files,
                places=count,
            )
            for n in range(partitions if files else 0)
        ]

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        names, work = rows_names(self.emitted, task.files), Work()
        results, where = [], f"{self.removal.name}: {self.round.name}"
        for rows in sorted_shares(store, names, task.number, int(task.reads), recipe.reduce_bytes):
            work.rows_in += len(rows)
            results.append(self.round.reduce(rows))
        table = pa.concat_tables(results)
        good = not self.last or isinstance(self.removal, Edit) or table.schema.equals(DECISIONS)
        need(good, f"{where}: the last round's results are not DECISIONS", error=DataError)
        places = np.zeros(len(table), np.uint32)
        if task.places:
            table, places = by_shard(table, task.places, where)
        work.rows_out = len(table)
        work.outputs = [_rows_written(store, str(task), table, places, max(task.places, 1))]
        return work


@dataclass(frozen=True)
class Write:
    name: str
    ending: Ending
    documents: str
    emitted: str  # the step that wrote the rows

    def tasks(self, recipe: Recipe, done: Done) -> list[Task]:
        inputs = {self.emitted: outputs_digest(done[self.emitted])}
        files = len(done[self.emitted])
        partitions = recipe.partitions_for(sum(receipt.bytes for receipt in done[self.documents]))
        said = [ENGINE, self.name, self.ending.fingerprint()]
        return [
            Task(self.name, number, digest([*said, number, inputs]), inputs, files=files)
            for number in range(partitions if files else 0)
        ]

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        rows = read_place(store, rows_names(self.emitted, task.files), task.number)
        work = Work(rows_in=len(rows), rows_out=len(rows))
        with TemporaryDirectory() as folder:
            for name in self.ending.finish().write(rows, task.number, Path(folder)):
                final = f"{self.name}/files/{name}"
                with open(Path(folder, name), "rb") as made, store.writing(final) as sink:
                    shutil.copyfileobj(made, sink, 1 << 20)
                work.outputs.append(
                    Output(name=final, sha256=sink.hash.hexdigest(), size=sink.size, rows=len(rows))
                )
        return work


Step = Map | Emit | Reduce | Write


def steps_of(recipe: Recipe) -> list[Step]:
    """The steps of a recipe, in order: chains are fused, each removal and edit takes two steps a round."""
    steps: list[Step] = []
    runs: list[tuple[Removal | Edit | None, list[Stage]]] = [(None, [])]
    ending = next((stage for stage in recipe.stages if isinstance(stage, Ending)), None)
    good = ending is None or ending is recipe.stages[-1]
    need(
        good,
        f"{ending.name if ending else ''} writes the files of a run: it is the last stage",
        error=DataError,
    )
    for stage in recipe.stages:
        apart = stage.where and not isinstance(stage, Annotation | Gate)
        need(not apart, f"{stage.name} is for all documents: it has no `where`", error=DataError)
        if isinstance(stage, Removal | Edit):
            runs.append((stage, []))
        elif isinstance(stage, Ending):
            continue
        else:
            runs[-1][1].append(stage)
    documents = decisions = ""
    for removal, chained in runs:
        if removal:
            steps += _rounds(removal, documents, len(steps))
            decisions = steps[-1].name
        name = f"{len(steps):02d}-{removal.name if removal else 'read'}"
        steps.append(Map(name, tuple(chained), documents, removal, decisions))
        documents = name
    if ending:
        emit = f"{len(steps):02d}-{ending.name}.emit"
        finish = ending.finish()
        together = Round(finish.name, finish.emit, _whole)
        steps.append(Emit(emit, ending, together, documents))
        steps.append(Write(f"{len(steps):02d}-{ending.name}", ending, documents, emit))
    return steps


def _whole(rows: pa.Table) -> pa.Table:
    """Nothing is reduced: an ending writes all that comes together."""
    return rows


def _rounds(removal: Removal | Edit, documents: str, start: int) -> list[Step]:
    steps: list[Step] = []
    results: dict[str, str] = {"documents": ""}
    rounds = removal.rounds()
    for round in rounds:
        emit = f"{start + len(steps):02d}-{removal.name}.{round.name}.emit"
        reduce = f"{start + len(steps) + 1:02d}-{removal.name}.{round.name}"
        side = results[round.side] if round.side else ""
        steps.append(Emit(emit, removal, round, documents, results[round.reads], side))
        last = round is rounds[-1]
        routed = last or round.name in {other.side for other in rounds}
        steps.append(Reduce(reduce, removal, round, documents, emit, routed, last))
        results[round.name] = reduce
    return steps


def shards(receipts: Sequence[Receipt]) -> list[Output]:
    """The kept files of a step; the place in this list is a shard's number."""
    return [output for receipt in receipts for output in receipt.kept()]


def rows_names(step: str, files: int) -> list[str]:
    return [f"{step}/rows/{number:06d}.rows" for number in range(files)]


def _rows_written(store: Store, task: str, table: pa.Table, places: np.ndarray, count: int) -> Output:
    step, _, number = task.rpartition("/")
    name = f"{step}/rows/{number}.rows"
    with store.writing(name) as sink:
        write_rows(sink, table, places, count)
    return Output(name=name, sha256=sink.hash.hexdigest(), size=sink.size, rows=len(table))


def _batches(source: Source | None, store: Store, task: Task, watch: Watch) -> Iterator[pa.Table]:
    batches = read_groups(store, task.reads) if source is None else _read(source, task.reads)
    for number in count():
        watch.reading(number)
        batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _read(source: Source, piece: str) -> Iterator[pa.Table]:
    """The batches of a piece; what is wrong with it becomes a sentence that names it."""
    where = f"{source.name}: {piece}"
    try:
        for batch in source.tables(piece):
            yield check(batch, where)
    except UNREADABLE as problem:
        fix = "mend it or take it out of the source, then run again: what is done stays done"
        raise PieceError(f"{where}: cannot be read: {problem}\n  try: {fix}") from problem
    except DataError as problem:
        raise PieceError(str(problem)) from problem
