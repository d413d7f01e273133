"""Is this step one to learn from, and is this run still well?

A step that is not finite, or whose gradient is far above the usual, is left out. A loss that stays far above
what is usual has spoilt the weights: the run goes back to a checkpoint from before and leaves those batches
out, as PaLM did by hand. All is decided from numbers that every rank has.

[Llama 3, 3.4] names no such rule; large runs of others lose percents of their steps to spikes (docs/log.md).
"""

import math
import statistics
from collections import deque
from typing import Annotated, Any

from pydantic import Field

from puna.errors import DataError, need
from puna.settings import Settings


class HealthSettings(Settings):
    window: Annotated[int, Field(ge=2)] = 128  # steps that say what is usual
    least: Annotated[int, Field(ge=2)] = 32  # steps before anything but not-a-number is judged
    most_gradient: Annotated[float, Field(gt=1)] = (
        10.0  # times the usual length; beyond, the step is left out
    )
    most_skipped: Annotated[int, Field(ge=1)] = 20  # in a row; then the run stops
    repeat_bad: bool = (
        False  # learn from a bad step if its batch, tried again, is well: then it was a machine
    )
    rewind_after: Annotated[int, Field(ge=0)] = 0  # steps in a row of far too high a loss; 0: never
    most_rise: Annotated[float, Field(gt=0)] = 6.0  # deviations above the usual loss that are far too high
    most_rewinds: Annotated[int, Field(ge=1)] = 3  # with less than `window` steps between; then the run stops


class Health:
    """Judges a step by the ones before; what it remembers is part of a checkpoint."""

    def __init__(self, settings: HealthSettings):
        self.settings = settings
        self.gradients: deque[float] = deque(maxlen=settings.window)
        self.losses: deque[float] = deque(maxlen=settings.window)
        self.in_a_row = 0  # bad steps
        self.risen = 0  # steps in a row of far too high a loss
        self.rewinds, self.since = 0, 0  # close to each other; steps since the last

    def why(self, loss: float, gradient: float) -> str:
        """Why a step must not be learned from; "" if it may."""
        if not math.isfinite(loss) or not math.isfinite(gradient):
            return f"loss {loss:.3g}, gradient {gradient:.3g}"
        if len(self.gradients) < self.settings.least:
            return ""
        usual = statistics.median(self.gradients)
        far = gradient > self.settings.most_gradient * usual
        return f"gradient {gradient:.3g}, usual {usual:.3g}" if far else ""

    def judge(self, loss: float, gradient: float) -> str:
        """The same of the next step, which is then remembered."""
        why = self.why(loss, gradient)
        self.in_a_row = self.in_a_row + 1 if why else 0
        fix = "a lower learning rate, or a look at the data from the last checkpoint on"
        problem = f"{self.in_a_row} steps in a row could not be learned from: {why}"
        need(self.in_a_row < self.settings.most_skipped, problem, fix, DataError)
        if math.isfinite(loss):
            self._watch(loss)
        if not why:
            self.gradients.append(gradient)
        return why

    @property
    def is_lost(self) -> bool:
        """Whether the loss has been too high for too long."""
        return 0 < self.settings.rewind_after <= self.risen

    def rewound(self, before: dict[str, Any]) -> None:
        """Go on as it was `before`, but for the count of this."""
        rewinds = self.rewinds + 1 if self.since < self.settings.window else 1
        fix = "a lower learning rate, or a look at the data that was left out"
        problem = f"{rewinds} times in {self.settings.window} steps the loss rose and stayed high"
        need(rewinds <= self.settings.most_rewinds, problem, fix, DataError)
        self.load(before)
        self.rewinds, self.since, self.risen = rewinds, 0, 0

    def new_level(self) -> None:
        """What loss was usual is no longer: other data, or nothing to go back to."""
        self.losses.clear()
        self.risen = 0

    def state(self) -> dict[str, Any]:
        return {
            "gradients": list(self.gradients),
            "losses": list(self.losses),
            "counts": [self.in_a_row, self.risen, self.rewinds, self.since],
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("gradients", "losses"):
            getattr(self, name).clear()
            getattr(self, name).extend(state[name])
        self.in_a_row, self.risen, self.rewinds, self.since = state["counts"]

    def _watch(self, loss: float) -> None:
        """Count a loss that is far too high; remember the others as usual."""
        self.since += 1
        if len(self.losses) >= self.settings.least:
            far = self.settings.most_rise * max(statistics.pstdev(self.losses), 1e-3)
            if loss > statistics.fmean(self.losses) + far:
                self.risen += 1
                return
        self.risen = 0
        self.losses.append(loss)
