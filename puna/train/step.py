"""One optimiser step after the other: batch, loss, backward, clip, update. What is done with them is the
caller's: he logs, evaluates, saves, stops.

Pre-training, fine-tuning, rewards and preferences are other losses and other batches over this one loop.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from puna.parallel.world import ALONE, World
from puna.train.health import Health
from puna.train.optimizer import Optimizer

# model, part of a batch -> (2,) sums over tokens: with the gradient, and the part of it that is reported
Loss = Callable[[nn.Module, Any], Tensor]
# parts of a batch, targets in all of it -> (2,) sums over this rank's tokens; leaves the gradient of the mean
Accumulate = Callable[[Sequence[Any], float], Tensor]


@dataclass
class Position:
    """Where a run is: with the optimiser's state all that resumes it."""

    step: int = 0  # the next one; its batch has the same number, also when steps before were left out


@dataclass(frozen=True)
class Step:
    """What a step was."""

    step: int
    loss: float  # nats a token
    gradient: float  # the length of the gradient before clipping
    rate: float  # the learning rate
    tokens: int  # that were trained on
    data_s: float  # waiting for the batch
    seconds: float
    skipped: str = ""  # why the update was left out
    repeated: str = ""  # what it was before its batch was tried again; well then: a machine was at fault


def in_turn(model: nn.Module, loss: Loss) -> Accumulate:
    """One part after the other. Ranks that share the weights add up their gradients after the last."""
    sync = getattr(model, "set_requires_gradient_sync", None)  # FSDP

    def accumulate(parts: Sequence[Any], count: float) -> Tensor:
        sums = torch.zeros(2, dtype=torch.float64)
        for number, part in enumerate(parts, 1):
            if sync:
                sync(number == len(parts))
            found = loss(model, part)  # (2,)
            (found[0] / count).backward()
            sums += found.detach().cpu()
        return sums

    return accumulate


def steps(
    accumulate: Accumulate,
    optimizer: Optimizer,
    batches: Callable[[int], Sequence[Any]],
    rate: Callable[[int], float],
    health: Health,
    position: Position,
    until: int,
    world: World = ALONE,
) -> Iterator[Step]:
    """Carry out the steps position.step .. until - 1; `position` moves before each is told.

    batches(n) -> this rank's share of batch n in parts that fit in memory, with `weights` of their targets;
    their sum over all parts and ranks divides the loss, so parts of different sizes are one batch.
    """
    while position.step < until:
        start = time.perf_counter()
        parts = batches(position.step)
        ready = time.perf_counter()
        own = torch.tensor(sum(float(part.weights.sum()) for part in parts))  # ()
        count = float(world.over_tokens(own)) or 1.0  # of documents of one token nothing is asked
        attempt = partial(_attempt, accumulate, optimizer, parts, count, world)
        first = found = attempt()
        repeats = health.settings.repeat_bad and bool(health.why(*first))
        if repeats:
            optimizer.forget()
            found = attempt()
        repeated = f"at first loss {first[0]:.3g}, gradient {first[1]:.3g}" if repeats else ""
        bad, step_rate = health.judge(*found), rate(position.step)
        if bad:
            optimizer.forget()
        else:
            optimizer.update(step_rate)
        number = position.step
        position.step += 1
        now = time.perf_counter()
        yield Step(number, *found, step_rate, int(count), ready - start, now - start, bad, repeated)


def _attempt(
    accumulate: Accumulate, optimizer: Optimizer, parts: Sequence[Any], count: float, world: World
) -> tuple[float, float]:
    """Loss and the gradient's length, the same on every rank; the gradient is there."""
    sums = world.over_stages(world.over_tokens(accumulate(parts, count)))  # (2,)
    return float(sums[1]) / count, float(optimizer.gather())


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """What a loss is for the text itself, whatever the vocabulary."""
    return nats_per_token / math.log(2) / bytes_per_token
