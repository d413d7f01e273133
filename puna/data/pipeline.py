"""A run: the steps of a recipe one after the other, each a set of tasks for a runner, all in one folder.

    run.json                      the recipe as it was resolved, and the names of the steps
    lineage.json                  what a whole run was made of
    00-read/kept/000000-000.parquet       documents that stay, dropped/ those that go and why,
    00-read/receipts/000000.json          what the task did; quarantine/ documents that kill a process
    01-dedup.url.latest.emit/rows/...     rows on their way to other tasks

The documents of the last step are the result. Running again does only what is not done. With `shard=(i, n)`
a process does every n-th task; a step whose inputs are not all there is an error that names them.
"""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from puna.data.origins import write_lineage
from puna.data.place import at_once
from puna.data.receipts import Receipt, damage, outputs_digest, read_receipt, receipt_name
from puna.data.recipe import Recipe
from puna.data.runners import Inline, Runner
from puna.data.steps import Step, steps_of
from puna.data.store import Store
from puna.data.task import PieceError, Task
from puna.data.work import Job
from puna.errors import ConfigError, DataError, need
from puna.log import event

SHOWN = 8  # names in a message
FOLDERS = ("kept", "dropped", "tally", "rows", "files", "receipts", "quarantine")


def run(
    recipe: Recipe,
    out: str | Path | Store,
    runner: Runner | None = None,
    shard: tuple[int, int] = (0, 1),
    step: str | None = None,
    trust: bool = False,
    wait_s: int = 0,
) -> str:
    """Carry out a recipe, or one step of it: the hash of all files that its steps wrote.

    At the barrier between two steps a shard waits up to `wait_s` seconds for the tasks of the others.
    """
    need(0 <= shard[0] < shard[1], f"shard {shard[0]}/{shard[1]}: the first is 0, the last {shard[1] - 1}")
    job, steps = Job(recipe, Store.at(out), trust), steps_of(recipe)
    patience = _Patience(wait_s)
    names = [one.name for one in steps]
    need(step is None or step in names, f"no step {step!r}", f"one of {', '.join(names)}", ConfigError)
    job.store.put("run.json", json.dumps(recipe.plain() | {"steps": names}, indent=1).encode())
    done: dict[str, list[Receipt]] = {}
    with closing(runner or Inline()) as hands:
        for one in steps[: names.index(step) + 1] if step else steps:
            if step is None or one.name == step:
                last = one.name in (step, names[-1])
                done[one.name] = _carried_out(job, one, done, hands, shard, None if last else patience)
            else:
                done[one.name] = _receipts(job, one, one.tasks(recipe, done), patience)
    if shard == (0, 1) and not step:
        _sweep(job.store, done)
        write_lineage(recipe, job.store, done)
    return outputs_digest(receipt for receipts in done.values() for receipt in receipts)


def _carried_out(
    job: Job,
    step: Step,
    done: dict[str, list[Receipt]],
    runner: Runner,
    shard: tuple[int, int],
    patience: "_Patience | None",
) -> list[Receipt]:
    """The receipts of all tasks of a step, after this shard's were carried out; of a last step, its own."""
    tasks = step.tasks(job.recipe, done)
    mine = [task for task in tasks if task.number % shard[1] == shard[0]]
    receipts, failed = {}, []
    for count, (task, result) in enumerate(runner(job, mine), 1):
        if isinstance(result, PieceError):
            failed.append((task.number, str(result)))
            continue
        receipts[task.number] = result
        facts = {"rows_in": result.rows_in, "rows_out": result.rows_out, "cpu_s": result.cpu_s}
        event("task", step=step.name, task=task.number, done=count, of=len(mine), **facts)
    if failed:
        first = "\n".join(text for _, text in sorted(failed)[:SHOWN])
        raise DataError(
            f"{step.name}: {len(failed)} of {len(mine)} tasks failed, the others are done\n{first}"
        )
    if shard == (0, 1):
        return [receipts[task.number] for task in tasks]
    return _receipts(job, step, tasks, patience, shard) if patience else list(receipts.values())


def _receipts(
    job: Job,
    step: Step,
    tasks: Sequence[Task],
    patience: "_Patience",
    shard: tuple[int, int] | None = None,
) -> list[Receipt]:
    """The receipts of tasks that other processes carry out: the barrier between steps."""
    held: dict[int, Receipt] = {}
    while True:
        rest = [task for task in tasks if task.number not in held]
        for task, receipt in zip(
            rest, at_once(lambda one: read_receipt(job.store, str(one)), rest), strict=True
        ):
            if receipt and receipt.spec_hash == task.spec_hash:
                held[task.number] = receipt
        if len(held) == len(tasks) or not patience.more():
            break
    missing = [str(task) for task in tasks if task.number not in held]
    mine = f"shard {shard[0]}/{shard[1]} of it is done; " if shard else ""
    names = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    problem = f"{mine}{len(missing)} of {len(tasks)} tasks of {step.name} have no receipt that holds: {names}"
    need(not missing, problem, f"run every shard of {step.name}, then go on", DataError)
    return [held[task.number] for task in tasks]


@dataclass
class _Patience:
    """How long a shard waits in all, looking ever more seldom."""

    left_s: float
    pause_s: float = 0.5

    def more(self) -> bool:
        """Pause, and say that it is worth another look; or not."""
        if self.left_s <= 0:
            return False
        time.sleep(min(self.pause_s, self.left_s))
        self.left_s -= self.pause_s
        self.pause_s = min(2 * self.pause_s, 30)
        return True


def _sweep(store: Store, done: dict[str, list[Receipt]]) -> None:
    """After a whole run: delete files of tasks that are no more, and what was left half written."""
    named = {"run.json"}
    for receipts in done.values():
        for receipt in receipts:
            named |= {output.name for output in receipt.outputs}
            named |= {
                receipt_name(receipt.task),
                receipt_name(receipt.task).replace("/receipts/", "/quarantine/"),
            }
    for name in store.names():
        step, _, rest = name.partition("/")
        ours = step.partition("-")[0].isdigit() and rest.partition("/")[0] in FOLDERS
        if ours and name not in named:
            store.delete(name)


def receipts_of(out: str | Path | Store) -> dict[str, list[Receipt]]:
    """Step -> its receipts, as they lie there."""
    store = Store.at(out)
    store.need_run()
    found: dict[str, list[Receipt]] = {}
    for step in json.loads(store.read("run.json") or b"{}")["steps"]:
        names = [name.rpartition("/")[2].removesuffix(".json") for name in store.names(f"{step}/receipts")]
        held = [read_receipt(store, f"{step}/{name}") for name in names if not name.startswith(".")]
        found[step] = [receipt for receipt in held if receipt]
    return found


def result(out: str | Path | Store) -> list[str]:
    """The files of the documents that the whole recipe kept, in order."""
    return [Store.at(out).path(output.name) for receipt in last_kept(out) for output in receipt.kept()]


def last_kept(out: str | Path | Store) -> list[Receipt]:
    """The receipts of the last step that wrote documents."""
    keeping = [held for held in receipts_of(out).values() if any(receipt.kept() for receipt in held)]
    return keeping[-1] if keeping else []


def verify(out: str | Path | Store) -> list[str]:
    """What is wrong with a run's files: every one is hashed again. Empty: all is as it was written."""
    store, problems = Store.at(out), []
    for step, receipts in receipts_of(store).items():
        damaged = len([n for n in store.names(f"{step}/receipts") if "/." not in n]) - len(receipts)
        problems += [f"{step}: {damaged} receipts are damaged"] if damaged else []
        problems += [] if receipts else [f"{step}: nothing is done"]
        for receipt in receipts:
            problems += damage(store, receipt)
    return problems
