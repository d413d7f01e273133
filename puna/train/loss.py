"""Cross-entropy of a hidden state and a head without the matrix of logits, which at 128K words is most of a
step's memory.

Rows go through the head a chunk at a time. Gradients are made on the way forward, while the chunk's logits
are there, so nothing is computed twice and no more than a chunk is held.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate

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
        size = max(1, CHUNK // len(head))
        wants_hidden, wants_head = ctx.needs_input_grad[:2]
        wide = torch.promote_types(head.dtype, torch.float32)
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_head = torch.zeros(head.shape, dtype=wide, device=head.device) if wants_head else None
        sums = torch.zeros(2, dtype=wide, device=hidden.device)  # (2,)
        weights = weights.to(wide)
        targets, here = _own(targets, len(head), words)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            weight, place = weights[part], targets[part, None]
            logits = F.linear(hidden[part], head).to(wide)  # (n, V)
            logit = logits.gather(1, place)[:, 0]  # (n,)
            most = logits.amax(-1)  # (n,)
            chances = logits.sub_(most[:, None]).exp_()  # (n, V), over their sum
            log_z = chances.sum(-1).log() + most  # (n,)
            if words is not None:
                log_z, logit = _over_words(log_z, logit * here[part], words)
            nll = log_z - logit  # (n,)
            sums += torch.stack(((weight * (nll + z * log_z.square())).sum(), (weight * nll).sum()))
            if not (wants_hidden or wants_head):
                continue
            chances.mul_((weight * (1 + 2 * z * log_z) * (most - log_z).exp())[:, None])
            chances.scatter_add_(1, place, -(weight if words is None else weight * here[part])[:, None])
            slope = chances.to(hidden.dtype)  # (n, V)
            if d_hidden is not None:
                torch.mm(slope, head, out=d_hidden[part])
            if d_head is not None:
                d_head += slope.T @ hidden[part]
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


def _own(targets: Tensor, words: int, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor | None]:
    """Each target's place among this rank's words, and whether it is there; 0 where it is not. (N,)"""
    if group is None:
        return targets, None
    place = targets - dist.get_rank(group) * words
    here = (place >= 0) & (place < words)
    return place * here, here


def _over_words(log_z: Tensor, logit: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """From what each rank found for its words to all words, in one exchange. (n,)"""
    pair = torch.stack((log_z, logit))  # (2, n)
    told = [torch.empty_like(pair) for _ in range(dist.get_world_size(group))]
    dist.all_gather(told, pair, group)
    pairs = torch.stack(told)  # (R, 2, n)
    return pairs[:, 0].logsumexp(0), pairs[:, 1].sum(0)
