"""What a position may look at: the values of the model's `attend` argument that need no parallelism.

`causal` for training rows, `documents` for rows that pack several texts, `Memory` for one conversation
that grows.
"""

from functools import partial
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from puna.model.config import ModelConfig
from puna.model.products import LONG, mix_by_products
from puna.model.transformer import Attend

BLOCK = 512  # queries at once where the built-in attention needs a mask


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


def segments(owner: Tensor, begin: int = 0, end: int | None = None) -> Attend:
    """The same as `documents`, without a mask, and without work on what a mask would hide.

    owner (B, T) on the CPU or not; equal neighbours are one document. Keys are of whole rows; queries may be
    of the positions begin .. end - 1 of each only. On a GPU one kernel takes all documents, in 16 bits;
    elsewhere, and in 32 bits or more, each is mixed by itself.
    """
    new = torch.ones_like(owner, dtype=torch.bool)
    new[:, 1:] = owner[:, 1:] != owner[:, :-1]
    starts, T = new.flatten().nonzero()[:, 0].tolist(), owner.shape[1]
    asked, cuts = [], [0]
    for start, stop in pairwise([*starts, owner.numel()]):
        row = start - start % T
        first, stop = max(start, row + begin), min(stop, row + (T if end is None else end))
        if first < stop:
            asked.append(stop - first)
            cuts += [start, stop]
    kept = [stop - start for start, stop in pairwise([*cuts, owner.numel()])]  # every other one is looked at
    all_texts = _AllTexts(asked, kept)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if q.device.type == "cuda" and len(asked) == len(q) and q.shape[1] == T:  # a text a row
            return causal(layer, q, k, v)
        if q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16):
            return all_texts(q, k, v)
        flat = [x.flatten(0, 1).transpose(0, 1) for x in (q, k, v)]  # (H, B * T, Dh)
        # split, not slices: each slice would have a gradient as long as the rows
        texts = zip(flat[0].split(asked, 1), *(x.split(kept, 1)[1::2] for x in flat[1:]), strict=True)
        mixed = torch.cat([_one_text(*text) for text in texts], dim=1)  # (H, B * T, Dh)
        return mixed.transpose(0, 1).unflatten(0, q.shape[:2])

    return attend


class _AllTexts:
    """Flash attention over texts that lie one after the other, all in one kernel. CUDA only."""

    def __init__(self, asked: list[int], kept: list[int]):
        """asked: queries of each text, its last ones. kept: keys of no text and of a text, in turns."""
        self.asked, self.kept, self.keys = asked, kept, kept[1::2]
        self.edges: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn  # seconds to import, and a CPU has no use for it

        rows, more = q.shape[:2], q.shape[2] // k.shape[2]
        k, v = (self._looked_at(x.flatten(0, 1)) for x in (k, v))  # (S, K, Dh)
        k, v = (x.repeat_interleave(more, 1) for x in (k, v))  # (S, H, Dh): torch 2.11 shares no heads here
        if q.device not in self.edges:
            self.edges[q.device] = _edges(self.asked, q.device), _edges(self.keys, q.device)
        longest = max(self.asked), max(self.keys)
        mixed = varlen_attn(q.flatten(0, 1), k, v, *self.edges[q.device], *longest, window_size=(-1, 0))
        return mixed.unflatten(0, rows)

    def _looked_at(self, x: Tensor) -> Tensor:
        return torch.cat(x.split(self.kept)[1::2]) if any(self.kept[::2]) else x


def _edges(lengths: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def _one_text(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (H, T, Dh) are the last of k and v (K, S, Dh), all of one text -> (H, T, Dh)."""
    return mix_by_products(q, k, v) if by_products(k) else _built_in(q, k, v)


def by_products(k: Tensor) -> bool:
    """Whether plain products are faster for keys (K, S, Dh) than the built-in attention (docs/log.md)."""
    shortest = {torch.bfloat16: 1, torch.float32: 128}.get(k.dtype, LONG + 1)
    return k.device.type == "cpu" and shortest <= k.shape[1] <= LONG


def _built_in(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    attention = partial(F.scaled_dot_product_attention, enable_gqa=True)
    T, S = q.shape[1], k.shape[1]
    if T == S:
        return attention(q[None], k[None], v[None], is_causal=True)[0]
    if q.device.type == "cuda":
        from torch.nn.attention.bias import causal_lower_right  # seconds to import, no use on a CPU

        return attention(q[None], k[None], v[None], attn_mask=causal_lower_right(T, S))[0]
    seen, parts = S - T, []
    for part in q.split(BLOCK, 1):  # so that little is read in vain, and the mask is small
        n, seen = part.shape[1], seen + part.shape[1]
        mask = torch.ones(n, seen, dtype=torch.bool).tril(seen - n)
        parts.append(attention(part[None], k[None, :, :seen], v[None, :, :seen], attn_mask=mask)[0])
    return torch.cat(parts, dim=1)


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


def mix(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """q (T, H, Dh) are the last T of S positions; keys and values (K, S, Dh) -> (T, H, Dh)."""
    T, S = len(q), keys.shape[1]
    mask = None if T == 1 else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    q = q.transpose(0, 1)  # (H, T, Dh)
    mixed = F.scaled_dot_product_attention(q[None], keys[None], values[None], attn_mask=mask, enable_gqa=True)
    return mixed[0].transpose(0, 1)
