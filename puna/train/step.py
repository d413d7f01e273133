"""One optimiser step after the other: batch, loss, backward, clip, update. What is done with them is the
caller's: he logs, evaluates, saves, stops.

Pre-training, fine-tuning, rewards and preferences are other losses and other batches over this one loop.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from puna.train.health import Health
from puna.train.optimizer import Optimizer

# model, batch -> (2,) sums over tokens: with the gradient, and the part of it that is reported
Loss = Callable[[nn.Module, Any], Tensor]


@dataclass
class Position:
    """Where a run is: with the optimiser's state all that resumes it."""

    step: int = 0  # the next one; its batch has the same number


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


def steps(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    batches: Callable[[int], Sequence[Any]],
    rate: Callable[[int], float],
    health: Health,
    position: Position,
    until: int,
) -> Iterator[Step]:
    """Carry out the steps position.step .. until - 1; `position` moves before each is told.

    batches(n) -> batch n in parts that fit in memory, each with `weights` of its targets; their sum over all
    parts divides the loss, so parts of different sizes are one batch.
    """
    while position.step < until:
        start = time.perf_counter()
        parts = batches(position.step)
        ready = time.perf_counter()
        count = (
            sum(float(part.weights.sum()) for part in parts) or 1.0
        )  # of documents of one token nothing is asked
        sums = torch.zeros(2, dtype=torch.float64)
        for part in parts:
            found = loss(model, part)  # (2,)
            (found[0] / count).backward()
            sums += found.detach().cpu()
        gradient = float(optimizer.gather())
        mean, step_rate = float(sums[1]) / count, rate(position.step)
        bad = health.judge(mean, gradient)
        if bad:
            optimizer.forget()
        else:
            optimizer.update(step_rate)
        number = position.step
        position.step += 1
        now = time.perf_counter()
        yield Step(number, mean, gradient, step_rate, int(count), ready - start, now - start, bad)


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """What a loss is for the text itself, whatever the vocabulary."""
    return nats_per_token / math.log(2) / bytes_per_token
