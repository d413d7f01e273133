"""The runner that is the definition: the plain torch model over a paged cache, each sequence by itself.

It reads on the device and in the number type of the model's weights; logits come back as fp32 on the CPU,
where the choice is made. All rows of a step go through the model together; only attention knows whose they
are. Pages that are neighbours are looked at where they lie; others are gathered first.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.engine.step import Outcome, Step
from puna.model.attend import mix
from puna.model.config import ModelConfig
from puna.model.lora import Adapter, to_fp32
from puna.model.transformer import Llama

PAGE = 16


@dataclass(frozen=True)
class _Change:
    """What an adapter adds to a projection."""

    down: Tensor  # (r, in)
    up: Tensor  # (out, r)
    scale: float


@dataclass(frozen=True)
class _Rows:
    """One sequence of a step: its rows, how many positions they may look at, and where these lie."""

    start: int
    stop: int
    seen: int
    where: slice | Tensor  # pages of the cache


class TorchRunner:
    """The model with a cache of `pages` pages, made when it is first needed."""

    def __init__(self, model: Llama, pages: int, page: int = PAGE):
        self.model, self.pages, self.page = model, pages, page
        self.size = model.lm_head.weight.shape[0]
        self.keys: list[Tensor] = []  # a layer's: (K, pages, page, Dh)
        self.values: list[Tensor] = []
        self.adapters: dict[int, dict[nn.Module, _Change]] = {}
        self._adapted: list[
            tuple[int, int, int]
        ] = []  # rows start ... stop - 1 of this step have this adapter
        self._heard: set[nn.Module] = set()  # projections that ask for changes

    @torch.inference_mode()
    def run(self, step: Step) -> Outcome:
        """Read the step's rows."""
        device = self.model.lm_head.weight.device
        positions, slots = self._places(step)
        self._adapted = [
            (*rows, n) for rows, n in zip(pairwise(step.starts), step.adapters, strict=False) if n
        ]
        parts = self._parts(step, device)
        where = torch.tensor(slots, device=device)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self._make_cache(layer, k)
            self.keys[layer].flatten(1, 2).index_copy_(1, where, k.transpose(0, 1))
            self.values[layer].flatten(1, 2).index_copy_(1, where, v.transpose(0, 1))
            return torch.cat([self._mixed(layer, q[rows.start : rows.stop], rows) for rows in parts])

        hidden = self.model.model(
            torch.tensor(step.tokens, device=device), torch.tensor(positions, device=device), attend
        )  # (T, D)
        wanted, asked = (
            hidden[torch.tensor(rows, dtype=torch.long, device=device)] for rows in (step.wanted, step.hidden)
        )
        numbers = (rows.float().cpu().numpy() for rows in (self.model.lm_head(wanted), asked))
        return Outcome(*numbers)

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        """Make one page hold the keys and values of another."""
        for held in (*self.keys, *self.values):
            held[:, target] = held[:, source]

    def put_adapter(self, number: int, adapter: Adapter) -> None:
        """Keep an adapter's halves in the numbers of the model."""
        changes = self.adapters[number] = {}
        for name, part in adapter.parts.items():
            projection = self.model.get_submodule(name)
            like = projection.weight
            assert isinstance(like, Tensor)
            down, up = (torch.from_numpy(to_fp32(part.kind, half)).to(like) for half in (part.down, part.up))
            changes[projection] = _Change(down, up, part.scale)
            if projection not in self._heard:
                self._heard.add(projection)
                projection.register_forward_hook(self._change)

    def drop_adapter(self, number: int) -> None:
        """Forget an adapter."""
        del self.adapters[number]

    def _change(self, projection: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        """y + scale · up(down x), for the rows of the sequences whose adapter changes this projection."""
        for start, stop, number in self._adapted:
            if change := self.adapters[number].get(projection):
                low = F.linear(inputs[0][start:stop], change.down)  # (T, r)
                out[start:stop] += change.scale * F.linear(low, change.up)
        return out

    def _make_cache(self, layer: int, k: Tensor) -> None:
        """A layer's pages, when it is first asked: then their device and number type are known."""
        if layer == len(self.keys):
            for held in (self.keys, self.values):
                held.append(k.new_empty(k.shape[1], self.pages, self.page, k.shape[2]))

    def _mixed(self, layer: int, q: Tensor, rows: _Rows) -> Tensor:
        keys = self.keys[layer][:, rows.where].flatten(1, 2)[:, : rows.seen]  # (K, S, Dh)
        values = self.values[layer][:, rows.where].flatten(1, 2)[:, : rows.seen]  # (K, S, Dh)
        return mix(q, keys, values)

    def _places(self, step: Step) -> tuple[list[int], list[int]]:
        """Of each row its position, and its slot among all positions of the cache."""
        positions: list[int] = []
        slots: list[int] = []
        for (start, stop), held, pages in zip(pairwise(step.starts), step.held, step.pages, strict=True):
            here = range(held, held + stop - start)
            positions += here
            slots += [pages[at // self.page] * self.page + at % self.page for at in here]
        return positions, slots

    def _parts(self, step: Step, device: torch.device) -> list[_Rows]:
        parts = []
        for (start, stop), held, pages in zip(pairwise(step.starts), step.held, step.pages, strict=True):
            seen = held + stop - start
            used = pages[: -(-seen // self.page)]
            neighbours = used == list(range(used[0], used[0] + len(used)))
            where = slice(used[0], used[0] + len(used)) if neighbours else torch.tensor(used, device=device)
            parts.append(_Rows(start, stop, seen, where))
        return parts


def page_bytes(config: ModelConfig, itemsize: int, page: int = PAGE) -> int:
    """What one page takes: keys and values of all layers."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * itemsize * page
