"""Muon: a matrix moves by its momentum made orthogonal, so that all directions move alike [Jordan 2024].

That takes the whole matrix, so one that is sharded is gathered, one after the other; every rank does the same
arithmetic and keeps its piece. torch.optim.Muon iterates on the pieces: 11 all-reduces a matrix, and updates
that are 3% off those of one rank, because 16 bits are added up in another order (measured).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from puna.model.init import corner
from puna.train.average import own_piece

QUINTIC = (3.4445, -4.7750, 2.0315)  # a x + b x^3 + c x^5 draws singular values to 1, steepest at 0 [Jordan]
ROUNDS = 5
SIZE = 0.2  # root mean square of an update, as AdamW's is, so that both have one learning rate [Liu 2025]


class Muon(torch.optim.Optimizer):
    """Of matrices only. `weight_decay` is AdamW's."""

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float = 0.95):
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                self._move(matrix, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, matrix: Tensor, rate: float, decay: float, momentum: float) -> None:
        held = self.state[matrix]
        if not held:
            held["momentum_buffer"] = torch.zeros_like(matrix)
        ahead, past = matrix.grad, own_piece(held["momentum_buffer"])
        past.lerp_(own_piece(ahead), 1 - momentum)
        own_piece(ahead).lerp_(past, momentum)
        if isinstance(ahead, DTensor):
            move = orthogonal(ahead.full_tensor())
            for axis, (first, length) in enumerate(zip(corner(matrix), own_piece(matrix).shape, strict=True)):
                move = move.narrow(axis, min(first, move.shape[axis]), length)
        else:
            move = orthogonal(ahead)
        size = SIZE * math.sqrt(max(matrix.shape))
        own_piece(matrix).mul_(1 - rate * decay).add_(move.to(matrix.dtype), alpha=-rate * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthogonal rows or columns, roughly: Newton and Schulz's iteration."""
    a, b, c = QUINTIC
    x = matrix if matrix.dtype == torch.float64 else matrix.bfloat16()
    x = x.mT if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x
