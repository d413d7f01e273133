"""Logits become their own gradient, in place: what is left of a loss once its matrix products are done.

At 128K words that is a matter of memory. Done step by step it reads and writes a chunk's logits some twenty
times, in fp32 at that; the Triton twin does it with one kernel that reads them twice (the second time mostly
from the cache) and writes them once, in the 16 bits they came in. All arithmetic is fp32 in both.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from puna import log

if TYPE_CHECKING:
    import triton.language as tl
    from torch import Tensor

WIDTH, WARPS = 8192, 16  # words that a program reads at once, and with how many warps: not tuned on a GPU yet


class Twin(Protocol):
    """logits (n, V), targets (n,), weights (n,) -> log Z (n,) and -log p(target) (n,), fp32 at least.

    With `learn` the logits are overwritten with the gradient of the sum of weight * (nll + z * log(Z)^2).
    """

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, z: float = 0.0, learn: bool = True
    ) -> tuple[Tensor, Tensor]: ...


def works_here(device: str) -> str | None:
    """Why the Triton twin is not used on such a device, or None."""
    if device != "cuda":
        return f"tensors are on {device}, not on a GPU"
    try:
        import_module("triton")
    except ImportError as problem:
        return f"{problem}; to have it, pip install triton"
    return None


@cache
def choose(device: str) -> tuple[Twin, str]:
    """What answers on this type of device, and why it is that."""
    reason = works_here(device)
    log.event("kernels", chosen="cross_entropy." + ("definition" if reason else "fused"), reason=reason)
    return (definition, reason) if reason else (fused, "Triton")


def definition(
    logits: Tensor, targets: Tensor, weights: Tensor, z: float = 0.0, learn: bool = True
) -> tuple[Tensor, Tensor]:
    """Step by step."""
    import torch

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32), copy=not learn)  # (n, V)
    asked = wide.gather(1, targets[:, None])[:, 0]  # (n,)
    most = wide.amax(-1)  # (n,)
    wide.sub_(most[:, None]).exp_()
    total = wide.sum(-1)  # (n,)
    log_z = total.log() + most  # (n,)
    nll = log_z - asked  # (n,)
    if learn:
        weights = weights.to(wide.dtype)
        wide.mul_((weights * (1 + 2 * z * log_z) / total)[:, None])
        wide.scatter_add_(1, targets[:, None], -weights[:, None])
        if wide is not logits:
            logits.copy_(wide)
    return log_z, nll


def fused(
    logits: Tensor, targets: Tensor, weights: Tensor, z: float = 0.0, learn: bool = True
) -> tuple[Tensor, Tensor]:
    """One program a row."""
    import torch

    assert logits.is_contiguous()
    n, V = logits.shape
    told = torch.empty(n, 2, dtype=torch.float32, device=logits.device)  # (n, 2)
    given = logits, targets.contiguous(), weights.float().contiguous(), told, V, z
    with torch.cuda.device_of(logits):  # of several GPUs Triton takes the current one
        _compiled()[(n,)](*given, LEARN=learn, WIDTH=min(WIDTH, 1 << (V - 1).bit_length()), num_warps=WARPS)
    return told[:, 0], told[:, 1]


@cache
def _compiled() -> Any:
    """The kernel. Triton is asked for at the first call: whoever has no GPU never imports it."""
    global tl
    import triton
    import triton.language as tl

    return triton.jit(_row)


def _row(logits, targets, weights, told, V, z, LEARN: tl.constexpr, WIDTH: tl.constexpr):
    """log Z of one row from a running largest logit and a running sum beside it, then its gradient."""
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * V  # more than 2^31 logits are usual
    target = tl.load(targets + row)
    place = tl.arange(0, WIDTH)
    wanted = tl.load(start + target).to(tl.float32)  # before anything is overwritten
    most = float("-inf")
    total = 0.0
    for first in range(0, V, WIDTH):
        x = tl.load(start + first + place, mask=first + place < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(most, tl.max(x, 0))
        total = total * tl.exp(most - higher) + tl.sum(tl.exp(x - higher), 0)
        most = higher
    log_z = most + tl.log(total)
    tl.store(told + 2 * row, log_z)
    tl.store(told + 2 * row + 1, log_z - wanted)
    if LEARN:
        weight = tl.load(weights + row)
        scale = weight * (1.0 + 2.0 * z * log_z)
        for first in range(0, V, WIDTH):
            here = first + place
            x = tl.load(start + here, mask=here < V, other=float("-inf")).to(tl.float32)
            slope = tl.exp(x - log_z) * scale - tl.where(here == target, weight, 0.0)
            tl.store(start + here, slope.to(logits.dtype.element_ty), mask=here < V)
