"""What a position may look at: the values of the model's `attend` argument that need no parallelism.

`causal` for training rows, `documents` for rows that pack several texts, `Memory` for one conversation
that grows.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.model.config import ModelConfig
from puna.model.products import LONG, mix_by_products
from puna.model.transformer import Attend


def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows side by side, each position sees itself and what came before. q (B, T, H, Dh)."""
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)  # (..., H, T, Dh)
    return mixed.transpose(-3, -2)


def documents(owner: Tensor) -> Attend:
    """Causal attention that never crosses a document: owner (B, T) numbers each position's document [P
    3.4.1].
    """
    same = owner[:, None, :, None] == owner[:, None, None, :]  # (B, 1, T, T)
    mask = same.tril()  # (B, 1, T, T)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)  # (B, H, T, Dh)
        return mixed.transpose(1, 2)

    return attend


def segments(owner: Tensor) -> Attend:
    """The same as `documents` without a mask, and without work on what a mask would hide.

    owner (B, T) on the CPU or not; equal neighbours are one document. On a GPU one kernel takes all of them,
    in 16 bits; elsewhere, and in 32 bits or more, each is mixed by itself.
    """
    new = torch.ones_like(owner, dtype=torch.bool)
    new[:, 1:] = owner[:, 1:] != owner[:, :-1]
    starts = [*new.flatten().nonzero()[:, 0].tolist(), owner.numel()]
    lengths = [end - start for start, end in pairwise(starts)]
    edges: dict[torch.device, Tensor] = {}  # the starts, where they are wanted

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        on_gpu = q.device.type == "cuda"
        if on_gpu and len(lengths) == len(q):  # a text a row
            return causal(layer, q, k, v)
        if on_gpu and q.dtype in (torch.bfloat16, torch.float16):
            if q.device not in edges:
                edges[q.device] = torch.tensor(starts, dtype=torch.int32, device=q.device)  # (N,)
            return _all_texts(q, k, v, edges[q.device], max(lengths))
        flat = [x.flatten(0, 1).transpose(0, 1) for x in (q, k, v)]  # (H, B * T, Dh)
        parts = zip(*(x.split(lengths, dim=1) for x in flat), strict=True)
        mixed = torch.cat([_one_text(*part) for part in parts], dim=1)  # (H, B * T, Dh)
        return mixed.transpose(0, 1).unflatten(0, q.shape[:2])

    return attend


def _all_texts(q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int) -> Tensor:
    """Flash attention over texts that lie one after the other, from edges[i] to edges[i + 1]. CUDA only."""
    from torch.nn.attention.varlen import varlen_attn  # seconds to import, and a CPU has no use for it

    rows, more = q.shape[:2], q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(more, 2) for x in (k, v))  # torch 2.11 shares no heads here
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))  # (B * T, H, Dh)
    mixed = varlen_attn(q, k, v, edges, edges, longest, longest, window_size=(-1, 0))  # (B * T, H, Dh)
    return mixed.unflatten(0, rows)


def _one_text(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (H, T, Dh), k and v (K, T, Dh) of one text -> (H, T, Dh)."""
    if by_products(q):
        return mix_by_products(q, k, v)
    return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]


def by_products(q: Tensor) -> bool:
    """Whether plain products are faster for q (H, T, Dh) than the built-in attention (docs/log.md)."""
    shortest = {torch.bfloat16: 1, torch.float32: 128}.get(q.dtype, LONG + 1)
    return q.device.type == "cpu" and shortest <= q.shape[1] <= LONG


class Memory:
    """The keys and values of one sequence, (K, S, Dh) a layer. It grows by doubling, up to `most` positions.

    Call the model on tokens (T,) at positions `memory.length ...`, then `memory.advance(T)`.
    """

    def __init__(self, config: ModelConfig, most: int | None = None, start: int = 256):
        self.config, self.most, self.length = config, most or config.max_position_embeddings, 0
        self.room = min(start, self.most)
        self.keys: list[Tensor | None] = [None] * config.num_hidden_layers
        self.values: list[Tensor | None] = [None] * config.num_hidden_layers

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (T, H, Dh), k and v (T, K, Dh): remember k and v, mix q over all that is remembered."""
        end = self.length + len(q)
        assert end <= self.most, "the engine must not read past the memory"
        while self.room < end:
            self.room = min(2 * self.room, self.most)
        keys = self.keys[layer] = self._grown(self.keys[layer], k)  # (K, R, Dh)
        values = self.values[layer] = self._grown(self.values[layer], v)  # (K, R, Dh)
        keys[:, self.length : end] = k.transpose(0, 1)
        values[:, self.length : end] = v.transpose(0, 1)
        return mix(q, keys[:, :end], values[:, :end])

    def _grown(self, held: Tensor | None, new: Tensor) -> Tensor:
        if held is not None and held.shape[1] == self.room:
            return held
        wider = new.new_empty(new.shape[1], self.room, new.shape[2])  # (K, R, Dh)
        if held is not None:
            wider[:, : self.length] = held[:, : self.length]
        return wider

    def advance(self, count: int) -> None:
        """The last `count` positions read are now the past."""
        self.length += count

    def keep(self, length: int) -> None:
        """Forget everything after the first `length` positions."""
        assert length <= self.length
        self.length = length


def mix(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """q (T, H, Dh) are the last T of S positions; keys and values (K, S, Dh) -> (T, H, Dh)."""
    T, S = len(q), keys.shape[1]
    mask = None if T == 1 else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    q = q.transpose(0, 1)  # (H, T, Dh)
    mixed = F.scaled_dot_product_attention(q[None], keys[None], values[None], attn_mask=mask, enable_gqa=True)
    return mixed[0].transpose(0, 1)
