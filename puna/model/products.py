"""Causal attention on a CPU as plain matrix products, a block of queries at a time.

oneDNN multiplies 16 bits five times as fast as the built-in attention does, and queries of one block need no
key after it, so little is computed in vain. Chances are kept for the way back: right for texts up to LONG.
"""

import torch
from torch import Tensor

BLOCK = 128  # queries; measured against 64, 256 and 512 (docs/log.md)
LONG = 2048  # positions; beyond, H * S * S / 2 kept chances take too much room


def mix_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (H, T, Dh) are the last T of S positions; k and v (K, S, Dh) -> (H, T, Dh)."""
    return _Products.apply(q, k, v)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (K, S), T = k.shape[:2], q.shape[1]
        q = (q * q.shape[-1] ** -0.5).unflatten(0, (K, -1))  # (K, H / K, T, Dh)
        mixed, kept = torch.empty_like(q), []
        for start, end in _blocks(T):
            seen, n = S - T + end, end - start
            scores = q[:, :, start:end].flatten(1, 2) @ k[:, :seen].mT  # (K, H / K * n, seen)
            scores = scores.unflatten(1, (-1, n))  # (K, H / K, n, seen)
            later = torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1)
            scores[..., seen - n :].masked_fill_(later, -torch.inf)
            chances = scores.softmax(-1).flatten(1, 2)  # (K, H / K * n, seen)
            mixed[:, :, start:end] = (chances @ v[:, :seen]).unflatten(1, (-1, n))
            kept.append(chances)
        ctx.save_for_backward(q, k, v, *kept)
        return mixed.flatten(0, 1)

    @staticmethod
    def backward(ctx, slope: Tensor):
        q, k, v, *kept = ctx.saved_tensors
        (K, S), T = k.shape[:2], q.shape[2]
        slope = slope.unflatten(0, (K, -1))  # (K, H / K, T, Dh)
        d_q = torch.empty_like(q)
        d_k, d_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
        for (start, end), chances in zip(_blocks(T), kept, strict=True):
            seen, n = S - T + end, end - start
            part = slope[:, :, start:end].flatten(1, 2)  # (K, H / K * n, Dh)
            d_v[:, :seen] += chances.mT @ part
            d_scores = torch._softmax_backward_data(part @ v[:, :seen].mT, chances, -1, chances.dtype)
            d_q[:, :, start:end] = (d_scores @ k[:, :seen]).unflatten(1, (-1, n))
            d_k[:, :seen] += d_scores.mT @ q[:, :, start:end].flatten(1, 2)
        return (d_q * q.shape[-1] ** -0.5).flatten(0, 1), d_k.to(k.dtype), d_v.to(v.dtype)


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(length, start + BLOCK)) for start in range(0, length, BLOCK)]
