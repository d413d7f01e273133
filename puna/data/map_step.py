"""Documents through a chain of stages: one task a piece of a source, or a shard.

A task reads, applies what rounds have found, runs the chain, and writes the documents that stay, a sidecar of
those that go, and a tally of both.
"""

import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc

from puna.data.chain import DROPPED, Chain, apply_decisions
from puna.data.document import check
from puna.data.exchange import read_place
from puna.data.parquet import Writer, read_groups, read_schema, text_bytes
from puna.data.place import at_once
from puna.data.quarantine import Watch
from puna.data.receipts import digest, outputs_digest
from puna.data.recipe import Recipe
from puna.data.rounds import Edit, Removal, Survey
from puna.data.source import Source, described, piece_stamp
from puna.data.stage import Stage
from puna.data.store import Store
from puna.data.tally import TALLY, tokens_of
from puna.data.task import ENGINE, Done, PieceError, Task, Work, rows_names, shards
from puna.errors import DataError, need

Decided = Callable[[pa.Table], pa.Table]
UNREADABLE = (OSError, ValueError, EOFError, LookupError, zlib.error, lzma.LZMAError, pa.ArrowException)


@dataclass(frozen=True)
class Map:
    name: str
    stages: tuple[Stage, ...]
    documents: str = ""  # the step whose kept shards it reads; none: the pieces of the sources
    removal: Removal | Edit | Survey | None = None
    decisions: str = ""  # the step that holds what its rounds found

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
            stamps = at_once(piece_stamp, [piece for _, piece in pieces])
            return [
                self._read(recipe, said, at, *found)
                for at, found in enumerate(zip(pieces, stamps, strict=True))
            ]
        decided = {self.decisions: outputs_digest(done[self.decisions])} if self.removal else {}
        said.append(self.removal.fingerprint() if self.removal else "")
        files = len(done[self.decisions]) if self.removal else 0
        tasks = []
        for number, shard in enumerate(shards(done[self.documents])):
            inputs = {shard.name: shard.sha256} | decided
            hashed = digest([ENGINE, self.name, number, said, inputs])
            tasks.append(Task(self.name, number, hashed, inputs, shard.name, files=files))
        return tasks

    def _read(self, recipe: Recipe, said: list, number: int, found: tuple[int, str], stamp: str) -> Task:
        (source, piece), inputs = found, {found[1]: stamp}
        hashed = digest([ENGINE, self.name, number, said, described(recipe.sources[source]), inputs])
        return Task(self.name, number, hashed, inputs, piece, source)

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        source = recipe.sources[task.source] if task.source >= 0 else None
        chain = Chain(self.stages, recipe.mode, recipe.sample, recipe.seed, watch)
        stem = f"{self.name}/{{}}/{task.number:06d}"
        kept = Writer(store, stem.format("kept"), recipe.group_bytes, recipe.shard_bytes if source else None)
        dropped = Writer(store, stem.format("dropped"), recipe.group_bytes)
        tally = Writer(store, stem.format("tally"), recipe.group_bytes)
        try:
            decided = self._found(store, task, chain)
            work = self._through(_batches(source, store, task, watch), decided, chain, kept, dropped)
            empty = (
                None if source else chain.run(decided(read_schema(store, task.reads).empty_table())).schema
            )
            tally.add(chain.tally.table())
            work.outputs = [*kept.close(empty), *dropped.close(DROPPED), *tally.close(TALLY)]
        finally:
            for writer in (kept, dropped, tally):
                writer.discard()
        work.drops, work.stage_s = dict(sorted(chain.drops.items())), dict(chain.stage_s)
        return work

    def _through(
        self, batches: Iterator[pa.Table], decided: Decided, chain: Chain, kept: Writer, dropped: Writer
    ) -> Work:
        work = Work()
        for batch in batches:
            work.rows_in += len(batch)
            batch = chain.run(decided(batch))
            work.rows_out += len(batch)
            work.bytes += int(text_bytes(batch).sum())
            work.tokens += pc.sum(tokens_of(batch)).as_py() or 0
            chain.tally.add(batch)
            if len(batch):
                kept.add(batch)
            for table in chain.dropped:
                dropped.add(table)
            chain.dropped.clear()
        return work

    def _found(self, store: Store, task: Task, chain: Chain) -> Decided:
        """What the rounds before do to rows: drop some, rewrite texts, add columns."""
        stage = self.removal
        if stage is None:
            return _as_they_are
        place = 0 if isinstance(stage, Survey) else task.number
        found = read_place(store, rows_names(self.decisions, task.files), place)
        if isinstance(stage, Removal):
            return partial(apply_decisions, chain, stage, decisions=found)
        call = stage.learned(found) if isinstance(stage, Survey) else partial(stage.apply, side=found)
        return partial(chain.edit, stage, call)


def _as_they_are(rows: pa.Table) -> pa.Table:
    return rows


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
