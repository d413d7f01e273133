"""A sequence too long for one rank is cut over several; each gathers the keys and values of all [P 3.3.2].

They are gathered, not sent around a ring: with grouped queries they are small, and a rank that has them all
can look at any document whole. Ranks hold chunks of equal work (balance.py).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from puna.model.attend import segments
from puna.model.transformer import Attend
from puna.parallel.balance import chunks
from puna.parallel.world import World

CUT = ("tokens", "targets", "positions", "weights")  # of a part of a batch; its documents stay whole
P = TypeVar("P")


def own(part: P, world: World) -> P:
    """What this rank reads of a part of a batch, each row in order of its chunks: (B, T / context)."""
    context = world.layout.context
    if context == 1:
        return part
    held = chunks(world.place("context"), context)

    def cut(rows: Tensor) -> Tensor:
        pieces = rows.chunk(2 * context, dim=1)
        return torch.cat([pieces[number] for number in held], dim=1)

    return replace(part, **{name: cut(getattr(part, name)) for name in CUT})


def attention(world: World) -> Callable[[Tensor], Attend]:
    """From the documents of whole rows (B, T) to what this rank's positions look at."""
    return partial(gathered, world=world) if world.layout.context > 1 else segments


def gathered(documents: Tensor, world: World) -> Attend:
    """`segments` for this rank's chunks: queries here, keys and values from everywhere, once a layer."""
    held, mesh = chunks(world.place("context"), world.layout.context), world.mesh["context"]
    n = documents.shape[1] // (2 * world.layout.context)
    halves = [segments(documents, number * n, (number + 1) * n) for number in held]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = _whole(torch.stack((k, v)), mesh)  # (B, T, K, Dh)
        mixed = [half(layer, part, k, v) for half, part in zip(halves, q.chunk(2, dim=1), strict=True)]
        return torch.cat(mixed, dim=1)

    return attend


def _whole(held: Tensor, mesh: DeviceMesh) -> Tensor:
    """Keys and values of the whole rows, (2, B, T, K, Dh), from this rank's (2, B, T / context, K, Dh).

    Backwards the gradients of all ranks add up in fp32, as those of the weights do.
    """
    wide = torch.promote_types(held.dtype, torch.float32)
    parts = DTensor.from_local(held, mesh, [Shard(0)])
    gathered = parts.redistribute(placements=[Replicate()], backward_dtype=wide)
    pieces = gathered.to_local(grad_placements=[Partial()]).unflatten(0, (-1, 2))  # (C, 2, B, N, K, Dh)
    early, late = pieces.chunk(2, dim=3)  # (C, 2, B, M, K, Dh)
    chunked = torch.cat((early, late.flip(0)))  # (2*C, 2, B, M, K, Dh)
    return chunked.movedim(0, 2).flatten(2, 3)
