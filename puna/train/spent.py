"""Where a run's time went, over all its starts: steps, data, checkpoints, judging, standing still.

What was done after the last checkpoint and is done again counts as standing still.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Spent:
    """Seconds by what they went to."""

    def __init__(self) -> None:
        self.began = self.first = time.time()
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start

    def state(self) -> dict[str, Any]:
        return {"seconds": dict(self.seconds), "first": self.first, "until": time.time()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on counting where another process had come to."""
        self.seconds.update(state["seconds"])
        self.seconds["stopped"] += max(0.0, self.began - state["until"])
        self.first = state["first"]

    def summary(self) -> dict[str, Any]:
        """Seconds by what they went to, of all there were; `goodput` is the share of steps."""
        total = max(time.time() - self.first, 1e-9)
        other = max(0.0, total - sum(self.seconds.values()))
        seconds = {name: round(value, 3) for name, value in {**self.seconds, "other": other}.items()}
        return {
            "seconds": seconds,
            "total": round(total, 3),
            "goodput": round(self.seconds["steps"] / total, 4),
        }
