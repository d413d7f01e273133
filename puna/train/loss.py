"""Cross-entropy of a hidden state and a head without the matrix of logits, which at 128K words is most of a
step's memory.

Rows go through the head a chunk at a time. Gradients are made on the way forward, while the chunk's logits
are there, so nothing is computed twice and no more than a chunk is held.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 1 << 23  # logits held at once: 32 MB in fp32


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
        rows = max(1, CHUNK // len(head))
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        wide = torch.promote_types(head.dtype, torch.float32)
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_head = torch.zeros(head.shape, dtype=wide, device=head.device) if wants_head else None
        sums = torch.zeros(2, dtype=wide, device=hidden.device)  # (2,)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], head).to(wide)  # (n, V)
            asked = logits.gather(1, targets[part, None])[:, 0]  # (n,)
            most = logits.amax(-1)  # (n,)
            chances = logits.sub_(most[:, None]).exp_()  # (n, V), over their sum
            total = chances.sum(-1)  # (n,)
            log_z = total.log() + most  # (n,)
            nll = log_z - asked  # (n,)
            weight = weights[part].to(wide)
            sums += torch.stack(((weight * (nll + z * log_z.square())).sum(), (weight * nll).sum()))
            if not (wants_hidden or wants_head):
                continue
            chances.mul_((weight * (1 + 2 * z * log_z) / total)[:, None])
            chances.scatter_add_(1, targets[part, None], -weight[:, None])
            slope = chances.to(hidden.dtype)  # (n, V)
            if d_hidden is not None:
                torch.mm(slope, head, out=d_hidden[part])
            if d_head is not None:
                d_head += slope.T @ hidden[part]
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
