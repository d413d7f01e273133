"""What ends a run early: a signal, after the step that is under way; a step that takes too long, at once.

SIGTERM, as clusters send it before they take a machine away, and the first Ctrl-C: the step is finished, a
checkpoint is written, the process ends. Whatever takes longer than it may is shown (the stacks of all
threads) and killed, so that torchrun can start the ranks again.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Annotated, Self

from pydantic import Field

from puna import log
from puna.settings import Settings

STOPPED = 75  # the exit code of a run that was stopped and goes on when started again (EX_TEMPFAIL)
Seconds = Annotated[float, Field(gt=0)]


class GuardSettings(Settings):
    timeout_s: Seconds = 600.0  # a rank that waits longer for the others fails; NCCL's own is as long
    hang_s: Seconds = (
        1800.0  # a step, with its judging and saving, that takes longer hangs; the first compiles
    )
    deadline_s: Seconds = 30.0  # from SIGTERM to the end; Kubernetes and Slurm kill after as much


class Guard:
    """Looks after a run within a `with` block. `asked` is the signal that wants it to stop, or ""."""

    def __init__(self, settings: GuardSettings):
        self.settings, self.asked = settings, ""
        self._late = self._deadline = float("inf")
        self._over = threading.Event()
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)
            }
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def beat(self) -> None:
        """Something begins that must not take longer than `hang_s`."""
        self._late = time.monotonic() + self.settings.hang_s

    def rest(self) -> None:
        """What comes now may take as long as it likes."""
        self._late = float("inf")

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        if number == signal.SIGTERM and self.asked != "SIGTERM":
            self._deadline = time.monotonic() + self.settings.deadline_s
        self.asked = signal.Signals(number).name

    def _look(self) -> None:
        s = self.settings
        while not self._over.wait(min(1.0, s.hang_s / 10, s.deadline_s / 10)):
            if time.monotonic() > self._deadline:
                self._end(f"{self.asked}, and no checkpoint within deadline_s = {s.deadline_s:g} s")
            if time.monotonic() > self._late:
                self._end(f"a step took longer than hang_s = {s.hang_s:g} s")

    def _end(self, why: str) -> None:
        log.event("hung", why=why)
        faulthandler.dump_traceback(sys.__stderr__)
        os._exit(1)
