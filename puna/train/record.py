"""What a run writes down: run/log.jsonl, a record a step, and run/recipe.json. One rank does it."""

import json
import os
import time
from pathlib import Path
from typing import Any

from puna import log
from puna.errors import DataError

BESIDE = ("judged", "sample")  # what carries the number of the next step, and is not done again


class Record:
    """The log of a run in `folder`; where it is not ours to write, records are only told."""

    def __init__(self, folder: Path, ours: bool = True):
        self.path, self.ours = folder / "log.jsonl", ours

    def begin(self, recipe: dict[str, Any], step: int) -> None:
        """Write the recipe, and take out of the log what comes after a step: it will be done again."""
        if not self.ours:
            return
        try:
            _cut(self.path, step)
            (self.path.parent / "recipe.json").write_text(json.dumps(recipe, indent=1), encoding="utf-8")
        except OSError as problem:
            raise _refused(self.path.parent, problem) from None

    def note(self, record: dict[str, Any]) -> None:
        """Write a record, and tell it. What is no step carries the number of the next one."""
        if not self.ours:
            return
        record = record | {"time": time.time()}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as problem:
            raise _refused(self.path, problem) from None
        log.event(record["event"], **{key: value for key, value in record.items() if key != "event"})

    def tell_spent(self, found: dict[str, Any]) -> None:
        """Where the run's time went, over all its starts: run/time.json."""
        if self.ours:
            (self.path.parent / "time.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
            log.event("spent", **found)


def _refused(path: Path, problem: OSError) -> DataError:
    fix = "make room, then run again: it goes on from its last checkpoint"
    return DataError(f"{path}: cannot be written ({problem.strerror})\n  try: {fix}")


def _cut(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        if record["step"] < step or (record["event"] in BESIDE and record["step"] == step):
            kept.append(line)
    part = path.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
