"""Cross-entropy of a hidden state and a head without the matrix of logits, which at 128K words is most of a
step's memory.

Rows go through the head a chunk at a time. Gradients are made on the way forward, while the chunk's logits
are there, so nothing is computed twice and no more than a chunk is held.
"""

from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate

from puna.kernels.gpu.cross_entropy import choose

CHUNK = 1 << 25  # logits held at once, 64 MB in bf16: with a quarter a 135M step takes 12% more (measured)
ROWS = 512  # at most on a CPU: with few words a chunk then stays in the cache, 20% faster at 8K (measured)
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
    """The same without the logits of all rows at once. hidden (..., D), targets and weights (...).

    With tensor parallelism hidden (B, T, D) and head are DTensors, targets and weights (B, T) whole. If
    hidden is whole too, a rank makes the logits of its own words; else those of its own rows, with the head
    gathered. Each rank has the sums over all rows.
    """
    words = rows = None  # the ranks that share them among each other
    if isinstance(head, DTensor):
        mesh = head.device_mesh
        if hidden.placements[0].is_replicate():
            words, head = mesh.get_group(), head.to_local()
            hidden = hidden.to_local(grad_placements=[Partial()])  # each rank's words add to the gradient
        else:
            rows, head = mesh.get_group(), head.redistribute(placements=[Replicate()])
            hidden, head = hidden.to_local(), head.to_local(grad_placements=[Partial()])
            targets, weights = (x.chunk(mesh.size(), 1)[mesh.get_local_rank()] for x in (targets, weights))
    flat = hidden.reshape(-1, hidden.shape[-1])  # (N, D)
    return _Chunked.apply(flat, head, targets.flatten(), weights.flatten(), z, words, rows)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, targets, weights, z, words, rows) -> Tensor:
        kind = hidden.device.type
        size = max(1, min(CHUNK // len(head), ROWS) if kind == "cpu" else CHUNK_GPU // len(head))
        read = choose(kind)[0] if words is None else partial(_own_words, group=words)
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        wide = torch.promote_types(head.dtype, torch.float32)
        d_hidden, d_head = torch.empty_like(hidden) if wants_hidden else None, None
        sums = torch.zeros(2, dtype=wide, device=hidden.device)  # (2,)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            logits, weight = F.linear(hidden[part], head), weights[part].to(wide)
            log_z, nll = read(logits, targets[part], weight, z, wants_hidden or wants_head)  # (n,)
            sums += torch.stack(((weight * (nll + z * log_z.square())).sum(), (weight * nll).sum()))
            slope = logits  # `read` has made them their gradient
            if wants_hidden:
                torch.mm(slope, head, out=d_hidden[part])
            if wants_head and size >= len(hidden):  # the only chunk: nothing to add up
                d_head = slope.T @ hidden
            elif wants_head:
                found = slope.T @ hidden[part]
                d_head = found.to(wide) if d_head is None else d_head.add_(found)
        if rows is not None:
            dist.all_reduce(sums, group=rows)
        ctx.save_for_backward(d_hidden, None if d_head is None else d_head.to(head.dtype))
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor):
        d_hidden, d_head = ctx.saved_tensors
        scale = gradient[0]  # ()
        hidden = None if d_hidden is None else d_hidden * scale.to(d_hidden.dtype)
        head = None if d_head is None else d_head * scale.to(d_head.dtype)
        return hidden, head, None, None, None, None, None


def _own_words(
    logits: Tensor, targets: Tensor, weights: Tensor, z: float, learn: bool, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """What kernels/gpu/cross_entropy.py defines, where logits (n, V) are of one rank's words among all."""
    place = targets - dist.get_rank(group) * logits.shape[1]  # (n,)
    here = (place >= 0) & (place < logits.shape[1])  # (n,)
    place = (place * here)[:, None]  # (n, 1)
    wide = logits.to(weights.dtype)  # (n, V)
    asked = wide.gather(1, place)[:, 0] * here  # (n,)
    most = wide.amax(-1)  # (n,)
    wide = wide.sub_(most[:, None]).exp_()  # (n, V)
    log_z, asked = _over_words(wide.sum(-1).log() + most, asked, group)  # (n,)
    if learn:
        wide.mul_((weights * (1 + 2 * z * log_z) * (most - log_z).exp())[:, None])
        wide.scatter_add_(1, place, -(weights * here)[:, None])
        logits.copy_(wide)
    return log_z, log_z - asked


def _over_words(log_z: Tensor, logit: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """From what each rank found for its words to all words, in one exchange. (n,)"""
    pair = torch.stack((log_z, logit))  # (2, n)
    told = [torch.empty_like(pair) for _ in range(dist.get_world_size(group))]
    dist.all_gather(told, pair, group)
    pairs = torch.stack(told)  # (R, 2, n)
    return pairs[:, 0].logsumexp(0), pairs[:, 1].sum(0)
