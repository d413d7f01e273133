"""One task, carried out: not at all where its receipt holds; else its files are written, then its receipt."""

import errno
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from puna.data.quarantine import Watch, read_poison
from puna.data.receipts import Receipt, damage, read_receipt, write_receipt
from puna.data.recipe import Recipe
from puna.data.steps import Step, steps_of
from puna.data.store import Store
from puna.data.task import Task
from puna.errors import DataError
from puna.log import listening

FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "is over its quota", errno.EFBIG: "refuses a file so large"}


@dataclass(frozen=True)
class Job:
    """What every task of a run shares."""

    recipe: Recipe
    store: Store
    trust: bool = False  # a file of the right size is not hashed again


def carry_out(job: Job, task: Task, watch: Watch) -> Receipt:
    """The task's receipt; after this call its files are there."""
    held = read_receipt(job.store, str(task))
    if held and held.spec_hash == task.spec_hash and not damage(job.store, held, job.trust):
        return held
    watch.poison = read_poison(job.store, str(task), task.spec_hash)
    wall, cpu, skips = time.monotonic(), time.process_time(), Skips()
    try:
        with listening(skips):
            work = _step(job.recipe, task.step).run(job.recipe, job.store, task, watch)
        receipt = Receipt(
            task=str(task),
            spec_hash=task.spec_hash,
            inputs=task.inputs,
            rows_in=work.rows_in,
            rows_out=work.rows_out,
            drops=work.drops,
            skipped=dict(sorted(skips.counts.items())),
            bytes=work.bytes,
            tokens=work.tokens,
            stage_s={name: round(s, 6) for name, s in work.stage_s.items()},
            cpu_s=round(time.process_time() - cpu, 6),
            wall_s=round(time.monotonic() - wall, 6),
            rss_mb=peak_mb(),
            outputs=tuple(work.outputs),
        )
        write_receipt(job.store, receipt)
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        fix = "make room, then run again: what is done stays done"
        said = f"{_fullest(job.store)} {FULL[problem.errno]} ({problem.strerror})"
        raise DataError(f"{task}: {said}\n  try: {fix}") from problem
    return receipt


def _fullest(store: Store) -> str:
    """Which folder that a task writes to has less room: the run's, or the one for temporary files."""
    places = [place for place in (store.base, tempfile.gettempdir()) if Path(place).is_dir()]
    return min(places, key=lambda place: shutil.disk_usage(place).free, default=store.base)


class Skips:
    """Counts the events `skipped` by which a source tells what it left out."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, record: dict) -> None:
        if record["event"] == "skipped":
            self.counts[record["reason"]] += record["count"]


def peak_mb() -> int:
    """The most memory that this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _step(recipe: Recipe, name: str) -> Step:
    return next(step for step in steps_of(recipe) if step.name == name)
