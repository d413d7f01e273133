"""First values of a model, the same for every layout: a number follows from the seed, the tensor's name and
its place, so a rank makes only the rows that it holds, and nobody sends anybody weights.

Normal, 0.02 wide; what adds to the stream is narrower by the square root of how often that happens, so that
the stream is as wide at the end as it is at the beginning [GPT-2]. Norms begin at 1.
"""

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from puna.model.config import ModelConfig

WIDTH = 0.02
BLOCK = 64  # rows that are drawn together
ADDING = ("o_proj.weight", "down_proj.weight")  # what adds to the stream


def initialize(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill every parameter; of a model that lies on several ranks, this rank's pieces."""
    with torch.no_grad():
        for name, tensor, local, begins in pieces(model):
            drawn = rows(name, tensor.shape, config, seed, begins[0], begins[0] + local.shape[0])  # (n, ...)
            local.copy_(drawn.narrow(-1, begins[-1], local.shape[-1]) if drawn.ndim > 1 else drawn)


def pieces(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor, list[int]]]:
    """Of each parameter: its name, all of it, what this rank holds of it, and where in it that begins."""
    for name, tensor in model.named_parameters():
        if not hasattr(tensor, "placements"):  # a DTensor has them
            yield name, tensor, tensor, [0] * tensor.ndim
        elif (local := tensor.to_local()).numel():
            yield name, tensor, local, corner(tensor)


def corner(tensor: Tensor) -> list[int]:
    """Where in the whole DTensor this rank's piece begins."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset  # only ranks need it

    _, begins = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return list(begins)


def rows(name: str, shape: torch.Size, config: ModelConfig, seed: int, first: int, last: int) -> Tensor:
    """Rows first .. last - 1 of the tensor of this name, fp32 on the CPU."""
    if len(shape) == 1:
        return torch.ones(last - first)
    depth = 2 * config.num_hidden_layers
    width = WIDTH / math.sqrt(depth) if name.endswith(ADDING) else WIDTH
    blocks = range(first // BLOCK, -(-last // BLOCK))
    drawn = torch.cat([_block(f"{seed}\0{name}\0{block}", shape[1]) for block in blocks])  # (N, D)
    start = first - blocks.start * BLOCK
    return drawn[start : start + last - first] * width


def _block(key: str, columns: int) -> Tensor:
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    generator = torch.Generator().manual_seed(number)
    return torch.randn(BLOCK, columns, generator=generator)  # (64, D)
