"""What a step does to every layer, every so many steps: how long gradient, weight and update are, how strong
activations and logits become; and which rank is slow.

An update that grows against its weight comes before a loss that does (docs/log.md).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Replicate

from puna.model.transformer import Llama
from puna.parallel.world import ALONE, World
from puna.train.average import own_piece
from puna.train.optimizer import Optimizer
from puna.train.step import Position, Step

ROWS = 64  # of each part whose logits are looked at
PROBE = 512  # width of the matrix that every rank multiplies, timed


class Statistics:
    """Stands in for the optimizer in the loop and looks on. `found` after a step that `is_due`."""

    def __init__(
        self,
        models: Sequence[Llama],
        optimizer: Optimizer,
        position: Position,
        every: int,
        world: World = ALONE,
    ):
        self.optimizer, self.position, self.every, self.world = optimizer, position, every, world
        layers = [str(number) for number in range(models[0].config.num_hidden_layers)]
        self.labels = ["embed_tokens", *layers, "norm", "lm_head"]
        self._forget_step()
        if every:
            for model in models:
                self._listen(model)

    def is_due(self, step: int) -> bool:
        return bool(self.every) and step % self.every == 0

    def gather(self) -> Tensor:
        length = self.optimizer.gather()
        if self.is_due(self.position.step):
            masters = self.optimizer.masters
            self.sums["weight"] = self._sums(lambda name: _square(masters[name]))
            self.sums["gradient"] = self._sums(lambda name: _square(masters[name].grad))
        return length

    @torch.no_grad()
    def update(self, rate: float) -> None:
        if not self.is_due(self.position.step):
            return self.optimizer.update(rate)
        masters = self.optimizer.masters
        before = {name: own_piece(master).to("cpu", copy=True) for name, master in masters.items()}
        self.optimizer.update(rate)
        self.sums["update"] = self._sums(
            lambda n: _square(own_piece(masters[n]) - before[n].to(masters[n].device))
        )
        state = self.optimizer.state()
        self.sums["mean"] = self._sums(lambda name: _square(state.get(f"exp_avg.{name}")))
        self.sums["square"] = self._sums(lambda name: _total(state.get(f"exp_avg_sq.{name}")))

    def forget(self) -> None:
        self.optimizer.forget()

    def found(self, step: Step) -> dict[str, Any]:
        """The record of a step; every rank takes part."""
        sizes = self._sums(lambda name: torch.tensor(float(own_piece(self.optimizer.masters[name]).numel())))
        strength = self.world.over_all(self.strength).cpu()  # (L, 2)
        columns = {
            "gradient": (self.sums.get("gradient"), sizes),
            "weight": (self.sums["weight"], sizes),
            "update": (self.sums.get("update"), self.sums["weight"]),  # against the weight
            "adam": (self.sums.get("mean"), self.sums.get("square")),  # 1: all gradients of late were one
            "activation": (strength[:, 0], strength[:, 1]),
        }
        layers = {
            label: {name: float((top[row] / below[row]).sqrt()) for name, (top, below) in columns.items()
                    if top is not None and below[row] > 0}
            for row, label in enumerate(self.labels)
        }  # fmt: skip
        each = torch.tensor([step.seconds, step.data_s, self._probe(), float(self.most_logit)])
        each = self.world.from_each(each).cpu()  # (ranks, 4)
        update = self.sums.get("update")
        record = {
            "event": "statistics",
            "step": step.step,
            "update": None if update is None else float((update.sum() / self.sums["weight"].sum()).sqrt()),
            "most_logit": float(each[:, 3].max()),
            "layers": layers,
            "ranks": {
                name: _spread(each[:, n].tolist()) for n, name in enumerate(("seconds", "data_s", "probe_s"))
            },
        }
        self._forget_step()
        return record

    def _forget_step(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.strength = torch.zeros(
            len(self.labels), 2, device=self.world.device
        )  # (L, 2): mean squares, parts
        self.most_logit = torch.zeros((), device=self.world.device)

    def _listen(self, model: Llama) -> None:
        """Hooks stay on, because compiled blocks would not see them come."""
        body = model.model
        heard = {"embed_tokens": body.embed_tokens, **body.layers, "norm": body.norm}
        for label, module in heard.items():
            if module is not None:
                module.register_forward_hook(partial(self._hear, self.labels.index(label)))
        if body.norm is not None:
            body.norm.register_forward_hook(lambda _, __, hidden: self._hear_logits(model, hidden))

    def _hear(self, row: int, _: nn.Module, __: Any, hidden: Tensor) -> None:
        if torch.is_grad_enabled() and self.is_due(self.position.step):
            square = own_piece(hidden).detach().float().square().mean()
            self.strength[row] += torch.stack((square, torch.ones_like(square)))

    def _hear_logits(self, model: Llama, hidden: Tensor) -> None:
        if torch.is_grad_enabled() and self.is_due(self.position.step):
            rows = own_piece(hidden).detach().flatten(0, -2)  # (N, D)
            logits = rows[:: max(1, len(rows) // ROWS)] @ own_piece(model.lm_head.weight).detach().T  # (n, V)
            self.most_logit = torch.maximum(self.most_logit, logits.float().abs().amax())

    def _sums(self, measure: Callable[[str], Tensor | None]) -> Tensor:
        """(L,) over the weights of each layer, over all ranks that hold pieces of them."""
        tables: dict[Any, tuple[Tensor, Any]] = {}
        for name, master in self.optimizer.masters.items():
            found = measure(name)
            if found is None:
                continue
            key = (master.device_mesh, master.placements) if isinstance(master, DTensor) else None
            table, _ = tables.setdefault(key, (torch.zeros(len(self.labels), dtype=torch.float64), key))
            words = name.split(".")
            label = words[words.index("layers") + 1] if "layers" in words else words[-2]
            table[self.labels.index(label)] += found.double().cpu()
        total = torch.zeros(len(self.labels), dtype=torch.float64)
        for table, key in tables.values():
            total += _over_pieces(table.to(self.world.device), *key).cpu() if key else table
        return self.world.over_stages(total).cpu()

    def _probe(self) -> float:
        """Seconds of the same products on each rank: in a step all wait for the slowest."""
        matrix = torch.ones(PROBE, PROBE, device=self.world.device)
        float((matrix @ matrix).sum())
        start = time.perf_counter()
        float((matrix @ matrix @ matrix).sum())
        return time.perf_counter() - start


def _square(tensor: Tensor | None) -> Tensor | None:
    """The sum of squares of this rank's piece."""
    if tensor is None:
        return None
    if isinstance(tensor, DTensor) and any(place.is_partial() for place in tensor.placements):
        whole = [Replicate() if place.is_partial() else place for place in tensor.placements]
        tensor = tensor.redistribute(placements=whole)
    return torch.linalg.vector_norm(own_piece(tensor).detach()).square()


def _total(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else own_piece(tensor).detach().sum()


def _over_pieces(table: Tensor, mesh: Any, placements: Any) -> Tensor:
    """Add up what ranks have that hold different pieces; not what they have that hold the same one."""
    alike = [Replicate() if place.is_replicate() else Partial() for place in placements]
    return DTensor.from_local(table, mesh, alike).full_tensor()


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "least": min(values),
        "median": statistics.median(values),
        "most": max(values),
        "slowest": values.index(max(values)),
    }
