"""Documents that must meet: rows of each shard are emitted, come together by their key, and become results or
the files that a run is for.

    Emit     one task a shard, or a partition of an earlier round: a stage's rows, by partition of their key
    Reduce   one task a partition: all rows of a share of the keys -> results, by the shard they are for
    Write    one task a partition, after an Emit: the files of an ending, such as token shards
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from puna.data.exchange import by_partition, by_shard, read_all, read_place, sorted_shares, write_rows
from puna.data.parquet import read_schema, read_table
from puna.data.quarantine import Watch
from puna.data.receipts import Output, digest, outputs_digest
from puna.data.recipe import Recipe
from puna.data.rounds import DECISIONS, Edit, Ending, Finish, Removal, Round, Survey
from puna.data.store import Store
from puna.data.task import ENGINE, Done, Task, Work, rows_names, shards
from puna.data.where import fits
from puna.errors import DataError, need


@dataclass(frozen=True)
class Emit:
    name: str
    removal: Removal | Edit | Survey | Ending
    round: Round | Finish
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
            wanted = {"id", "source", "url", "date", *self.removal.reads, *self.removal.where}
            names = read_schema(store, task.reads).names
            missing = sorted(wanted - set(names))
            need(not missing, f"{self.removal.name} reads the column {missing[:1]}, which no stage writes",
                 "put the stage that writes it before it", DataError)  # fmt: skip
            wanted |= set(ending.may_read) if ending else set()
            table = read_table(store, task.reads, [name for name in names if name in wanted])
            if self.removal.where:  # the others take no part
                table = table.filter(pa.array(fits(self.removal.where, table, self.removal.name)))
        emitted = self.round.emit(table, task.number, side)
        where = f"{self.removal.name}: {self.round.name}"
        places = by_partition(emitted, task.places, where, isinstance(self.removal, Ending))
        read = len(table)
        del table  # the texts, which the rows may hold again
        output = _rows_written(store, str(task), emitted, places, task.places)
        return Work(rows_in=read, rows_out=len(emitted), outputs=[output])


@dataclass(frozen=True)
class Reduce:
    name: str
    removal: Removal | Edit | Survey
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
        good = not (self.last and isinstance(self.removal, Removal)) or table.schema.equals(DECISIONS)
        need(good, f"{where}: the last round's results are not DECISIONS", error=DataError)
        places = np.zeros(len(table), np.uint32)
        if task.places:
            places = by_shard(table, task.places, where)
        work.rows_out = len(table)
        work.outputs = [_rows_written(store, str(task), table, places, max(task.places, 1))]
        return work


@dataclass(frozen=True)
class Write:
    name: str
    ending: Ending
    finish: Finish
    documents: str
    emitted: str  # the step that wrote the rows

    def tasks(self, recipe: Recipe, done: Done) -> list[Task]:
        inputs = {self.emitted: outputs_digest(done[self.emitted])}
        files = len(done[self.emitted])
        partitions = recipe.partitions_for(sum(receipt.bytes for receipt in done[self.documents]))
        said = [ENGINE, self.name, self.ending.fingerprint(), self.finish.name]
        return [
            Task(self.name, number, digest([*said, number, inputs]), inputs, files=files)
            for number in range(partitions if files else 0)
        ]

    def run(self, recipe: Recipe, store: Store, task: Task, watch: Watch) -> Work:
        rows = read_place(store, rows_names(self.emitted, task.files), task.number)
        work = Work(rows_in=len(rows), rows_out=len(rows))
        with TemporaryDirectory() as folder:
            for name in self.finish.write(rows, task.number, Path(folder)):
                final = f"{self.name}/files/{name}"
                with open(Path(folder, name), "rb") as made, store.writing(final) as sink:
                    shutil.copyfileobj(made, sink, 1 << 20)
                work.outputs.append(
                    Output(name=final, sha256=sink.hash.hexdigest(), size=sink.size, rows=len(rows))
                )
        return work


def _rows_written(store: Store, task: str, table: pa.Table, places: np.ndarray, count: int) -> Output:
    step, _, number = task.rpartition("/")
    name = f"{step}/rows/{number}.rows"
    with store.writing(name) as sink:
        write_rows(sink, table, places, count)
    return Output(name=name, sha256=sink.hash.hexdigest(), size=sink.size, rows=len(table))
