"""Cross-entropy of a hidden state and a head without the matrix of logits, which at 128K words is most of a
step's memory.

Rows go through the head a chunk at a time. Gradients are made on the way forward, while the chunk's logits
are there, so nothing is computed twice and no more than a chunk is held.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.kernels.gpu.cross_entropy import choose

CHUNK = 1 << 23  # logits held at once: 32 MB in fp32
CHUNK_GPU = 1 << 30  # there 2 GB in bf16, without fp32 beside them: 8,192 rows of 128K words, large products


def cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, z: float = 0.0) -> Tensor:
    """Sums over rows of hidden (N, D), head (V, D), targets (N,), weights (N,): (2,) fp32.

    [0] weight * (-log p(target) + z * log(Z)^2), which has a gradient; [1] weight * -log p(target) alone.
    """
    logits = F.linear(hidden, head).float()  # (N, V)
    log_z = torch.logsumexp(logits, -1)  # (N,)
    nll = log_z - logits.gather(1, targets[:, None])[:, 0]  # (N,)
    loss = (weights * (nll + z * log_z.square())).sum()
    return torch.stack((loss, (weights * nll).sum().detach()))


def chunked_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, z: float = 0.0
) -> Tensor:
    """The same without the logits of all rows at once."""
    return _Chunked.apply(hidden, head, targets, weights, z)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, z: float) -> Tensor:
        kind = hidden.device.type
        rows, read = max(1, (CHUNK if kind == "cpu" else CHUNK_GPU) // len(head)), choose(kind)[0]
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        wide = torch.promote_types(head.dtype, torch.float32)
        d_hidden, d_head = torch.empty_like(hidden) if wants_hidden else None, None
        sums = torch.zeros(2, dtype=wide, device=hidden.device)  # (2,)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits, weight = F.linear(hidden[part], head), weights[part].to(wide)
            log_z, nll = read(logits, targets[part], weight, z, wants_hidden or wants_head)  # (n,)
            sums += torch.stack(((weight * (nll + z * log_z.square())).sum(), (weight * nll).sum()))
            slope = logits  # `read` has made them their gradient
            if wants_hidden:
                torch.mm(slope, head, out=d_hidden[part])
            if wants_head and rows >= len(hidden):  # the only chunk: nothing to add up
                d_head = slope.T @ hidden
            elif wants_head:
                found = slope.T @ hidden[part]
                d_head = found.to(wide) if d_head is None else d_head.add_(found)
        ctx.save_for_backward(d_hidden, None if d_head is None else d_head.to(head.dtype))
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor):
        d_hidden, d_head = ctx.saved_tensors
        scale = gradient[0]  # ()
        return (
            None if d_hidden is None else d_hidden * scale.to(d_hidden.dtype),
            None if d_head is None else d_head * scale.to(d_head.dtype),
            None,
            None,
            None,
        )
