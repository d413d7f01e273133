"""How far work is: a bar on a terminal, a line now and then elsewhere, nothing for what is over in a moment.

It listens to the events `load`, `write`, `read`, `task` and `label`, which carry `done` and `of`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from puna.cli.screen import can_move, clean
from puna.log import listening

if TYPE_CHECKING:
    from rich.progress import Progress

KINDS = ("load", "write", "read", "task", "label")


@contextmanager
def shown(stream: TextIO, what: str, patience_s: float = 0.5, every_s: float = 5.0) -> Iterator[None]:
    """Tell on `stream` how the block goes. `what` is a few words like "loading smollm2"."""
    teller = Bar(stream, clean(what), patience_s) if can_move(stream) else Lines(stream, clean(what), every_s)
    try:
        with listening(teller):
            yield
    finally:
        teller.close()


class Lines:
    """For logs and pipes: a line at most every few seconds, and a last one if there was any."""

    def __init__(self, stream: TextIO, what: str, every_s: float):
        self.stream, self.what, self.every_s = stream, what, every_s
        self.told, self.any = time.monotonic(), False

    def __call__(self, record: dict) -> None:
        now, counts = time.monotonic(), _counts(record)
        if counts and (now - self.told >= self.every_s or (self.any and counts[0] == counts[1])):
            self.stream.write(f"{self.what}{_step(record)}: {counts[0]:,} of {counts[1]:,}\n")
            self.stream.flush()
            self.told, self.any = now, True

    def close(self) -> None:
        pass


class Bar:
    """For terminals: the words at once, a bar when it takes longer, and a clean line afterwards."""

    def __init__(self, stream: TextIO, what: str, patience_s: float):
        self.stream, self.what, self.patience_s = stream, what, patience_s
        self.started, self.bar = time.monotonic(), None
        self._line(f"{what} ...")

    def __call__(self, record: dict) -> None:
        counts = _counts(record)
        if counts and time.monotonic() - self.started >= self.patience_s:
            self.bar = self.bar or self._bar()
            said = f"{self.what}{_step(record)}"
            self.bar.update(self.bar.task_ids[0], completed=counts[0], total=counts[1], description=said)

    def _bar(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._line("")
        words = TextColumn("{task.description}", markup=False)  # a file's name may look like markup
        columns = (words, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=Console(file=self.stream), transient=True)
        bar.add_task(self.what, total=None)
        bar.start()
        return bar

    def _line(self, text: str) -> None:
        self.stream.write(f"\r\x1b[K{text}")
        self.stream.flush()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
        self._line("")


def _step(record: dict) -> str:
    """Which part of the work an event is about, where it says so."""
    return f" {clean(str(record['step']))}" if "step" in record else ""


def _counts(record: dict) -> tuple[int, int] | None:
    """(done, of) of an event that tells progress."""
    if record["event"] in KINDS and "done" in record and "of" in record:
        return record["done"], record["of"]
    return None
