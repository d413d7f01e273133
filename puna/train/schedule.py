"""The learning rate as a function of the step: warm up, hold or fall, end.

[P 3.4.1] Llama 3: linear to the peak in 8,000 steps, cosine to 1% of it over 1.2 million, and at last linear
to zero over 40 million tokens. WSD holds the peak and falls at the end, so a run can be prolonged.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from puna.errors import ConfigError, need
from puna.settings import Settings


class Schedule(Settings):
    """Shares of `peak` over `steps`; what is not said of the middle is held."""

    peak: Annotated[float, Field(gt=0)]
    shape: Literal["cosine", "wsd", "linear"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0  # steps
    last: Annotated[float, Field(ge=0, le=1)] = 0.01  # of the peak, when the shape has ended [P 3.4.1]
    decay: Annotated[int, Field(ge=0)] = 0  # wsd: the steps over which it falls, at the end
    over: Annotated[int, Field(ge=1)] | None = None  # steps that the shape is made for; None: those there are
    # steps at the very end, or all of the last stage: linear to zero [P 3.4.3]
    anneal: Annotated[int, Field(ge=0)] | Literal["stage"] = 0

    @model_validator(mode="after")
    def wsd_falls(self) -> "Schedule":
        need(self.shape != "wsd" or self.decay, "wsd never falls", "decay = steps", ConfigError)
        return self

    def rate(self, step: int, steps: int, last_stage: int = 0) -> float:
        """The learning rate of step 0 .. steps - 1, of which the last stage has `last_stage`."""
        anneal = last_stage if self.anneal == "stage" else self.anneal
        end = steps - anneal
        over = self.over or end
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if step < end:
            return self.peak * self._share(step, over)
        return self.peak * self._share(end, over) * (steps - step) / (anneal + 1)

    def _share(self, step: int, end: int) -> float:
        begin = max(self.warmup, end - self.decay) if self.shape == "wsd" else self.warmup
        done = min(1.0, max(0.0, (step - begin) / max(1, end - begin)))
        if self.shape == "cosine":
            return self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * done))
        return 1 - (1 - self.last) * done
