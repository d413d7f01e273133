"""Checkpoints: a folder for each, written beside its name and renamed when it is whole.

    step-00001200/tensors/...        PyTorch's distributed checkpoint: any number of ranks writes, any reads
    step-00001200/checkpoint.json    where the run was, size and SHA-256 of every file, and of this one

Tensors are copied, then written by a thread while training goes on: each rank writes what it holds and hashes
what it wrote, and the first one gives the folder its name when all are done. What has no checkpoint.json, or
other files than it says, is never loaded: the one before it is.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor

from puna import log
from puna.errors import DataError, PunaError, need
from puna.parallel.agree import Ranks
from puna.train.bucket import FACTS, Bucket

_NAME = re.compile(r"step-\d{8}")


class Checkpoints:
    """Those of one run. The `keep` newest stay, and each whose step divides by `keep_every`.

    On several ranks the folder is one that all of them reach, and each calls the same methods.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        keep_every: int = 0,
        ranks: Ranks | None = None,
        bucket: str | None = None,
    ):
        """With `bucket`, an address, each is kept there too, and fetched where the folder has none so new."""
        self.folder, self.keep, self.keep_every = Path(folder), keep, keep_every
        self.ranks = ranks or Ranks()
        self.bucket = Bucket(bucket, self.ranks) if bucket else None
        self.last: int | None = None  # the step of the one that was saved, or found to be the newest
        self._thread: threading.Thread | None = None
        self._problem = ""

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Copy the tensors, and write them in the background. `settle` tells whether that went well."""
        self.settle()
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        given = (step, copies, facts | {"step": step})
        self._thread, self.last = threading.Thread(target=self._attempt, args=given, daemon=True), step
        self._thread.start()

    def settle(self) -> None:
        """Wait for what is being written; raise what went wrong with it."""
        if self._thread:
            self._thread.join()
        problem, self._thread, self._problem = self._problem, None, ""
        fix = "make room, then run again: it goes on from the checkpoint before"
        need(not problem, f"{self.folder}: no checkpoint could be written: {problem}", fix, DataError)

    def newest(self, before: int | None = None) -> Path | None:
        """The last whole checkpoint, if there is one, of at most so many steps; ranks share its hashing."""
        if self.bucket and before is None:
            self.bucket.fetch(self.folder)
        names = self.ranks.first(lambda: sorted(self._names(), reverse=True))
        for path in (self.folder / name for name in names):
            if before is not None and int(path.name[5:]) > before:
                continue
            found = self.ranks.each(lambda path=path: damage(path, self.ranks.rank, self.ranks.size))
            problems = [problem for some in found for problem in some]
            if not problems:
                self.last = int(path.name[5:])
                return path
            log.event("damaged", checkpoint=str(path), problem=problems[0])
        return None

    def tidy(self) -> None:
        """Remove what was half written when a run was killed."""
        self.ranks.first(lambda: _removed(self.folder.glob(".step-*")))

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)]

    def _attempt(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        try:
            self._write(step, tensors, facts)
        except dcp.api.CheckpointException as problem:
            self._problem = "; ".join(f"rank {rank}: {why}" for rank, (why, _) in problem.failures.items())
        except (OSError, PunaError, RuntimeError) as problem:  # the last: another rank is gone
            self._problem = str(problem)

    def _write(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        part = self.folder / f".step-{step:08d}.part"
        self.ranks.first(lambda: _emptied(part))
        with _quiet():
            dcp.save(
                tensors,
                checkpoint_id=part / "tensors",
                process_group=self.ranks.group,
                no_dist=self.ranks.group is None,
            )
        stamps = self.ranks.each(lambda: self._stamps(part))
        files = {name: stamp for own in stamps for name, stamp in own.items()}
        final, kept = self.ranks.first(lambda: self._commit(part, facts, files))
        if self.bucket:
            self.bucket.send(final, list(stamps[self.ranks.rank]), kept)
        log.event("checkpoint", step=step, path=str(final), bytes=sum(size for size, _ in files.values()))

    def _stamps(self, part: Path) -> dict[str, tuple[int, str]]:
        """Size and hash of the files that this rank wrote; the index is the first one's."""
        own = [*(part / "tensors").glob(f"__{self.ranks.rank}_*")]
        if self.ranks.rank == 0:
            own.append(part / "tensors" / ".metadata")
        return {str(path.relative_to(part)): _stamp(path) for path in sorted(own)}

    def _commit(self, part: Path, facts: dict[str, Any], files: dict[str, Any]) -> tuple[Path, list[str]]:
        """Give a whole checkpoint its name, and let old ones go; its path, and which are kept."""
        missing = [name for name, (size, _) in files.items() if _size(part / name) != size]
        fix = "a folder that all of them reach"
        need(not missing, f"{part}: {missing[:1]} of another rank is not here", fix, DataError)
        said = facts | {"files": files}
        with open(part / FACTS, "w", encoding="utf-8") as file:
            json.dump(said | {"sum": _sum(said)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        final, old = self.folder / f"step-{facts['step']:08d}", part.with_suffix(".old")
        if final.exists():
            final.rename(old)
        part.rename(final)
        _sync(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        for name in sorted(self._names())[: -self.keep]:
            if not self.keep_every or int(name[5:]) % self.keep_every:
                shutil.rmtree(self.folder / name)
        return final, self._names()


def read(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Read a checkpoint, that `newest` found whole, into these tensors, in place; its facts.

    A rank reads what it needs, whichever ranks wrote it.
    """
    with _quiet():
        try:
            dcp.load(tensors, checkpoint_id=path / "tensors", no_dist=True)
        except (dcp.api.CheckpointException, ValueError) as problem:
            raise DataError(f"{path}: another model or optimizer than this run's: {problem}") from None
    return facts_of(path)


def facts_of(path: Path) -> dict[str, Any]:
    """Where the run was; of a whole checkpoint."""
    return json.loads((path / FACTS).read_text(encoding="utf-8"))


def damage(path: Path, share: int = 0, shares: int = 1) -> list[str]:
    """What is wrong with a checkpoint: every file is hashed, or a share of them. Empty: it is whole."""
    try:
        said = json.loads((path / FACTS).read_text(encoding="utf-8"))
        whole = said.pop("sum") == _sum(said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        return [f"{FACTS} is missing or damaged"]
    problems = []
    for name, (size, digest) in list(said["files"].items())[share::shares]:
        if _size(path / name) != size or _stamp(path / name)[1] != digest:
            problems.append(f"{name} is not as it was written")
    return problems


def _sum(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, str]:
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _removed(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that there is one process only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
