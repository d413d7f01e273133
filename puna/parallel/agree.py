"""What ranks tell each other beside the training itself: plain values, over a group of their own.

Two threads must not share a group: their messages would cross (the process aborts, measured). So what goes on
in the background, above all the writing of checkpoints, has this one, and the step has the others.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from puna.errors import DataError
from puna.parallel.world import ALONE, World

Given = TypeVar("Given")


class Ranks:
    """All ranks of a world. Each calls the same methods in the same order; one that is alone asks itself."""

    def __init__(self, world: World = ALONE, timeout_s: float = 600.0):
        self.rank, self.size = world.rank, world.size
        self.group = None
        if world.mesh is not None:
            self.group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))

    def each(self, do: Callable[[], Given]) -> list[Given]:
        """What each rank's `do` gives, in order of ranks. Where it fails on one, it fails on all."""
        if self.group is None:
            return [do()]
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, _tried(do), group=self.group)
        problem = next((f"rank {rank}: {said}" for rank, (said, _) in enumerate(told) if said), "")
        if problem:
            raise DataError(problem)
        return [value for _, value in told]

    def first(self, do: Callable[[], Given]) -> Given:
        """What the first rank's `do` gives; the others wait for it."""
        if self.group is None:
            return do()
        told = [_tried(do) if self.rank == 0 else None]
        dist.broadcast_object_list(told, src=0, group=self.group)
        problem, value = told[0]
        if problem:
            raise DataError(problem)
        return value


def _tried(do: Callable[[], Given]) -> tuple[str, Given | None]:
    try:
        return "", do()
    except (OSError, DataError) as problem:
        return str(problem), None
