"""Checkpoints: a folder for each, written beside its name and renamed when it is whole.

    step-00001200/tensors/...        PyTorch's distributed checkpoint: any number of ranks writes, any reads
    step-00001200/checkpoint.json    where the run was, and size and SHA-256 of every file

Tensors are copied, then written by a thread while training goes on. What has no checkpoint.json, or other
files than it says, is never loaded: the one before it is.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor

from puna import log
from puna.errors import DataError, need

FACTS = "checkpoint.json"
_NAME = re.compile(r"step-\d{8}")


class Checkpoints:
    """Those of one run. The `keep` newest stay, and each whose step divides by `keep_every`."""

    def __init__(self, folder: Path, keep: int = 2, keep_every: int = 0):
        self.folder, self.keep, self.keep_every = Path(folder), keep, keep_every
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Copy the tensors, and write them in the background. `settle` tells whether that went well."""
        self.settle()
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self._thread = threading.Thread(target=self._attempt, args=(step, copies, facts | {"step": step}))
        self._thread.start()

    def settle(self) -> None:
        """Wait for what is being written; raise what went wrong with it."""
        if self._thread:
            self._thread.join()
        problem, self._thread, self._problem = self._problem, None, None
        if problem:
            fix = "make room, then run again: it goes on from the checkpoint before"
            raise DataError(
                f"{self.folder}: no checkpoint could be written: {problem}\n  try: {fix}"
            ) from problem

    def newest(self, before: int | None = None) -> Path | None:
        """The last whole checkpoint, if there is one; of at most so many steps."""
        found = sorted(
            (path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True
        )
        for path in found:
            if before is not None and int(path.name[5:]) > before:
                continue
            problems = damage(path)
            if not problems:
                return path
            log.event("damaged", checkpoint=str(path), problem=problems[0])
        return None

    def _attempt(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        try:
            self._write(step, tensors, facts)
        except (OSError, dcp.api.CheckpointException) as problem:
            self._problem = problem

    def _write(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        final = self.folder / f"step-{step:08d}"
        part = final.with_name(f".{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is one process only
            dcp.save(tensors, checkpoint_id=part / "tensors", no_dist=True)
        files = {str(path.relative_to(part)): _stamp(path) for path in sorted((part / "tensors").iterdir())}
        with open(part / FACTS, "w", encoding="utf-8") as file:
            json.dump(facts | {"files": files}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _sync(self.folder)
        self._retire()
        log.event("checkpoint", step=step, path=str(final), bytes=sum(size for size, _ in files.values()))

    def _retire(self) -> None:
        found = sorted(path for path in self.folder.glob("step-*") if _NAME.fullmatch(path.name))
        for path in found[: -self.keep]:
            if not self.keep_every or int(path.name[5:]) % self.keep_every:
                shutil.rmtree(path)


def read(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Read a checkpoint into these tensors, in place; its facts."""
    problems = damage(path)
    need(not problems, f"{path}: {problems[:1]}", "another checkpoint of the run", DataError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.load(tensors, checkpoint_id=path / "tensors", no_dist=True)
        except (dcp.api.CheckpointException, ValueError) as problem:
            raise DataError(f"{path}: another model or optimizer than this run's: {problem}") from None
    return facts_of(path)


def facts_of(path: Path) -> dict[str, Any]:
    """Where the run was; of a whole checkpoint."""
    return json.loads((path / FACTS).read_text(encoding="utf-8"))


def damage(path: Path) -> list[str]:
    """What is wrong with a checkpoint: every file is hashed. Empty: it is whole."""
    try:
        files = json.loads((path / FACTS).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{FACTS} is missing or damaged"]
    problems = []
    for name, (size, digest) in files.items():
        there = (path / name).is_file() and (path / name).stat().st_size == size
        if not there or _stamp(path / name)[1] != digest:
            problems.append(f"{name} is not as it was written")
    return problems


def _stamp(path: Path) -> tuple[int, str]:
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
