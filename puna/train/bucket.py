"""Checkpoints in an object store beside those on disk, for machines that are taken away with their disks.

A checkpoint is sent once it is whole here: each rank sends what it wrote, and at last the first one sends
checkpoint.json, without which no checkpoint counts. Where the disk has an older one or none, it is fetched.
"""

import re
import shutil
from pathlib import Path

from puna.data.store import BLOCK, Store
from puna.parallel.agree import Ranks

FACTS = "checkpoint.json"
WHOLE = re.compile(rf"(step-\d{{8}})/{re.escape(FACTS)}")


class Bucket:
    """The checkpoints of one run at an address such as s3://bucket/nano."""

    def __init__(self, address: str, ranks: Ranks):
        self.store, self.ranks = Store.at(address), ranks

    def send(self, path: Path, own: list[str], kept: list[str]) -> None:
        """A whole checkpoint, of which this rank wrote `own`; others than those `kept` are let go."""
        self.ranks.each(
            lambda: [self.store.send(path / name, f"{path.name}/{name}") for name in own] and None
        )
        self.ranks.first(lambda: self._finish(path, kept))

    def fetch(self, folder: Path) -> None:
        """The newest checkpoint, where it is newer than any in this folder."""
        name, names = self.ranks.first(lambda: self._newer(folder))
        if not name:
            return
        part = folder / f".{name}.fetched"
        self.ranks.each(lambda: self._take(names[self.ranks.rank :: self.ranks.size], name, part))
        self.ranks.first(lambda: part.rename(folder / name) and None)

    def _finish(self, path: Path, kept: list[str]) -> None:
        self.store.send(path / FACTS, f"{path.name}/{FACTS}")
        names = self.store.names()
        old = {found[1] for name in names if (found := WHOLE.fullmatch(name)) and found[1] not in kept}
        for name in sorted(old):  # what makes it count goes first
            self.store.delete(f"{name}/{FACTS}")
        for name in names:
            if name.partition("/")[0] in old and not WHOLE.fullmatch(name):
                self.store.delete(name)

    def _newer(self, folder: Path) -> tuple[str, list[str]]:
        """Its name and those of its files; "" where there is none."""
        names = self.store.names()
        found = max((found[1] for name in names if (found := WHOLE.fullmatch(name))), default="")
        here = max((path.parent.name for path in folder.glob(f"step-*/{FACTS}")), default="")
        if found <= here:
            return "", []
        shutil.rmtree(folder / found, ignore_errors=True)  # half of it, from a time that did not end well
        return found, [name.partition("/")[2] for name in names if name.startswith(f"{found}/")]

    def _take(self, names: list[str], name: str, part: Path) -> None:
        for file in names:
            place = part / file
            place.parent.mkdir(parents=True, exist_ok=True)
            with self.store.open(f"{name}/{file}") as source, open(place, "wb") as out:
                while block := source.read(BLOCK):
                    out.write(block)
