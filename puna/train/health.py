"""Is this step one to learn from? Never if it is not finite; nor if its gradient is far above the usual.

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


class Health:
    """Judges a step by the ones before; what it remembers is part of a checkpoint."""

    def __init__(self, settings: HealthSettings):
        self.settings = settings
        self.gradients: deque[float] = deque(maxlen=settings.window)
        self.in_a_row = 0

    def judge(self, loss: float, gradient: float) -> str:
        """Why this step must not be learned from; "" if it may."""
        why = self._why(loss, gradient)
        self.in_a_row = self.in_a_row + 1 if why else 0
        fix = "a lower learning rate, or a look at the data from the last checkpoint on"
        problem = f"{self.in_a_row} steps in a row could not be learned from: {why}"
        need(self.in_a_row < self.settings.most_skipped, problem, fix, DataError)
        if not why:
            self.gradients.append(gradient)
        return why

    def state(self) -> dict[str, Any]:
        return {"gradients": list(self.gradients), "in_a_row": self.in_a_row}

    def load(self, state: dict[str, Any]) -> None:
        self.gradients.clear()
        self.gradients.extend(state["gradients"])
        self.in_a_row = state["in_a_row"]

    def _why(self, loss: float, gradient: float) -> str:
        if not math.isfinite(loss) or not math.isfinite(gradient):
            return f"loss {loss:.3g}, gradient {gradient:.3g}"
        if len(self.gradients) < self.settings.least:
            return ""
        usual = statistics.median(self.gradients)
        far = gradient > self.settings.most_gradient * usual
        return f"gradient {gradient:.3g}, usual {usual:.3g}" if far else ""
