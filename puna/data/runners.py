"""Who carries out tasks: this process, a pool of processes, Ray. All give the same receipts in any order.

A runner takes tasks and yields each with its receipt, or with the PieceError it ended in; any other error
ends the run. The pool outlives its workers: when one dies, the task is tried again, and the document that
kills it is hunted down and set aside (quarantine.py).
"""

import json
import multiprocessing
import os
import pickle
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from puna.data.quarantine import Hunt, Spot, Watch, read_poison, write_poison
from puna.data.receipts import Receipt
from puna.data.task import PieceError, Task
from puna.data.work import Job, carry_out
from puna.errors import ConfigError, DataError, PunaError, need

PATIENCE_S = 5.0
Result = tuple[Task, Receipt | PieceError]


class Runner(Protocol):
    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Result]: ...

    def close(self) -> None: ...


class Inline:
    """One after the other, here."""

    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Result]:
        for task in tasks:
            yield task, _attempt(job, task, Watch())

    def close(self) -> None:
        pass


class Pool:
    """`workers` processes, each started fresh (spawn) and kept until `close`; one that dies is replaced."""

    def __init__(self, workers: int = os.cpu_count() or 1):
        need(workers > 0, "a pool has at least one worker", error=ConfigError)
        self.workers = workers
        self.hands: list[_Hand] = []

    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Result]:
        todo, well = list(reversed(tasks)), False
        try:
            while len(self.hands) < min(self.workers, len(todo)):
                self.hands.append(_Hand(job))
            for hand in self.hands[: len(todo)]:
                hand.begin(job, todo.pop())
            while any(hand.task for hand in self.hands):
                busy = {hand.pipe: hand for hand in self.hands if hand.task}
                for pipe in wait(list(busy)):
                    hand = busy[pipe]  # type: ignore[index]
                    result = hand.hear()
                    if result is not None:
                        yield result
                        if todo:
                            hand.begin(job, todo.pop())
            well = True
        finally:
            if not well:  # an error left workers in the middle of a task
                self.close()

    def close(self) -> None:
        while self.hands:
            self.hands.pop().stop()


@dataclass
class _Hand:
    """One worker process, the task it has, and the hunt for what kills it there."""

    job: Job
    task: Task | None = None
    spot: Spot | None = None
    hunt: Hunt = field(default_factory=Hunt)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.known: Job | None = None

    def begin(self, job: Job, task: Task) -> None:
        self.job, self.task, self.spot, self.hunt = job, task, None, Hunt()
        self._send(False)

    def _send(self, careful: bool) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: hear() will see that
            new = None if self.known is self.job else self.job  # what a stage has loaded stays with its job
            self.pipe.send((new, self.task, self.hunt.narrow, careful))
            self.known = self.job

    def hear(self) -> Result | None:
        """Take one message: a spot, a result, an error to raise, or the silence of a dead process."""
        assert self.task is not None
        try:
            said = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            said = self._bury()
            if said is None:
                return None
        if isinstance(said, Spot):
            self.spot = said
            return None
        if isinstance(said, BaseException) and not isinstance(said, PieceError):
            raise said
        task, self.task = self.task, None
        return task, said

    def _bury(self) -> PieceError | None:
        """The process is dead: learn from where it died, start another, try again with care or give up."""
        assert self.task is not None
        self.process.join()
        self.pipe.close()
        how = f"exit code {self.process.exitcode}"
        store, name, spec_hash = self.job.store, str(self.task), self.task.spec_hash
        self._start()
        self.hunt.poison = read_poison(store, name, spec_hash)
        try:
            if self.hunt.died(self.spot, name, how):
                write_poison(store, name, spec_hash, self.hunt.poison)
        except DataError as problem:
            return PieceError(str(problem))
        self.spot = None
        self._send(True)
        return None

    def stop(self) -> None:
        """End it, in the middle of a task too; it is given a moment to take its half-written file along."""
        self.process.terminate()
        self.process.join(PATIENCE_S)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection) -> None:
    """What a worker does until its pipe closes."""
    job: Job | None = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception: what is open is tidied up
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # who gave the tasks is gone
        while True:
            new, task, narrow, careful = pipe.recv()
            job = new or job
            assert job is not None
            watch = Watch(narrow=narrow, tell=pipe.send if careful else None)
            try:
                answer: Any = _attempt(job, task, watch)
            except Exception as problem:  # at the border of a process: raised again where the pool was called
                answer = _told(problem)
            pipe.send(answer)


def _told(problem: Exception) -> Exception:
    """An error as it can travel: ours as they are, others with where they happened."""
    if isinstance(problem, PunaError):
        return type(problem)(str(problem))
    return RuntimeError("a worker failed:\n" + "".join(traceback.format_exception(problem)))


def _attempt(job: Job, task: Task, watch: Watch) -> Receipt | PieceError:
    try:
        return carry_out(job, task, watch)
    except PieceError as problem:
        return PieceError(str(problem))


@dataclass(frozen=True)
class OnRay:
    """Core tasks on a Ray cluster, at `address` or a local one. Every node must reach the store."""

    address: str | None = None
    cpus: int | None = None  # of a local one

    def __call__(self, job: Job, tasks: Sequence[Task]) -> Iterator[Result]:
        ray = _ray()
        if not ray.is_initialized():
            own = {"address": "local", "num_cpus": self.cpus}  # not one that happens to run here
            facts: dict[str, Any] = {"address": self.address} if self.address else own
            ray.init(**facts, log_to_driver=False, configure_logging=False)
        remote = ray.remote(num_cpus=1, max_retries=2)(_on_ray)
        paths, shared = [path for path in sys.path if path], ray.put(pickle.dumps(job))
        waiting = {remote.remote(paths, shared, task): task for task in tasks}
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(ready)
            try:
                yield task, ray.get(ready)
            except ray.exceptions.RayTaskError as problem:
                raise _told(problem.cause) from None
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError):
                with closing(Pool(1)) as pool:  # where the killer of its process can be hunted
                    yield from pool(job, [task])

    def close(self) -> None:
        pass  # the cluster is not ours to stop


def _on_ray(paths: list[str], job: bytes, task: Task) -> Receipt | PieceError:
    sys.path += [path for path in paths if path not in sys.path]  # a recipe's stages may be anywhere
    return _attempt(pickle.loads(job), task, Watch())


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("the runner `ray` needs Ray\n  try: pip install 'ray==2.60.0'") from None
    return ray


LAUNCHERS = {"slurm": "slurm.sh", "kubernetes": "kubernetes.yaml", "ray": "ray.sh"}


def launch_text(
    kind: str, recipe: str, out: str, steps: Sequence[str], shards: int, image: str = "IMAGE"
) -> str:
    """A file for a cluster that runs shard i of `shards` of each step, one step after the other; Ray, all."""
    need(kind in LAUNCHERS, f"no launch file for {kind!r}", f"one of {', '.join(LAUNCHERS)}", ConfigError)
    need(shards > 0, "at least one shard is needed", error=DataError)
    text = (Path(__file__).parent / "launch" / LAUNCHERS[kind]).read_text()
    quoted = json.dumps if kind == "kubernetes" else shlex.quote  # a string of JSON is one of YAML
    filled = {
        "RECIPE": quoted(recipe),
        "OUT": quoted(out),
        "STEPS": " ".join(steps),
        "SHARDS": str(shards),
        "LAST": str(shards - 1),
    }
    for name, value in (filled | {"IMAGE": image}).items():
        text = text.replace(f"@{name}@", value)
    return text
