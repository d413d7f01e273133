"""What moves the weights: AdamW [P 3.4.1], or Muon for the matrices of the layers and AdamW for the rest.

The optimizer holds masters in fp32 where the model computes in bf16: an update is often too small to change
16 bits, and would be lost.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from puna.errors import ConfigError, need
from puna.parallel.world import ALONE, World
from puna.settings import Settings
from puna.train.muon import Muon

Part = Literal["embed_tokens", "lm_head", "norm", "input_layernorm", "post_attention_layernorm",
               "self_attn", "q_proj", "k_proj", "v_proj", "o_proj",
               "mlp", "gate_proj", "up_proj", "down_proj"]  # fmt: skip


class OptimizerSettings(Settings):
    kind: Literal["adamw", "muon"] = "adamw"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1  # of matrices; norms do not decay
    decay_embeddings: bool = True
    clip: Annotated[float, Field(ge=0)] = 1.0  # of the whole gradient's length; 0: not at all
    muon_rate: Annotated[float, Field(gt=0)] = (
        1.0  # Muon's learning rate over AdamW's, at AdamW's update size
    )
    rates: dict[Part, Annotated[float, Field(gt=0)]] = {}  # part of a weight's name -> times the rate


class Optimizer:
    """`gather()` when the gradients of a step are there, then `update(rate)` or `forget()`."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        settings: OptimizerSettings,
        dtype: torch.dtype | None = None,
        world: World = ALONE,
    ):
        """Takes the weights of a model, or of this rank's stages of it, as masters.

        With `dtype` the model then computes in that; sharded models hold their masters themselves.
        """
        self.settings, self.world = settings, world
        apart = dtype not in (None, torch.float32, torch.float64)
        weights = _named(models)
        self.masters = {name: _copy(weight) if apart else weight for name, weight in weights.items()}
        if apart:
            for model in models:
                model.to(dtype)
        self.weights = _named(models)
        words = {word for name in self.masters for word in name.split(".")}
        idle = [part for part in settings.rates if part not in words and world.layout.pipeline == 1]
        need(not idle, f"optimizer.rates: this model has no {idle[:1]}", "without it", ConfigError)
        self.parts = _optimizers(self.masters, settings)
        self.length = torch.zeros(())

    def gather(self) -> Tensor:
        """The length of the whole gradient, before clipping."""
        for name, weight in self.weights.items():
            assert weight.grad is not None, f"{name} takes no part in the loss"
            if self.masters[name] is not weight:
                self.masters[name].grad, weight.grad = weight.grad.float(), None
        gradients = [master.grad for master in self.masters.values()]
        length = torch.nn.utils.get_total_norm(gradients)  # ()
        length = length.full_tensor() if isinstance(length, DTensor) else length
        self.length = self.world.over_stages(length.square()).sqrt()  # ()
        return self.length

    def update(self, rate: float) -> None:
        """Clip, move by the gradient, publish."""
        masters = list(self.masters.values())
        if self.settings.clip:
            torch.nn.utils.clip_grads_with_norm_(masters, self.settings.clip, self.length)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group["factor"]
            part.step()
        self.forget()
        self.publish()

    def forget(self) -> None:
        """Drop the gradients."""
        for master in self.masters.values():
            master.grad = None

    def publish(self) -> None:
        """The masters' values into the model."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                if self.masters[name] is not weight:
                    weight.copy_(self.masters[name])

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on, by name: masters, and what each optimiser remembers of them."""
        named = {id(master): name for name, master in self.masters.items()}
        found = {f"weights.{name}": master.detach() for name, master in self.masters.items()}
        for part in self.parts:
            for master, held in part.state.items():
                found |= {f"{key}.{named[id(master)]}": value for key, value in held.items()}
        return found

    def prepare(self) -> None:
        """Make the places of what the optimisers remember, so that a checkpoint can be read into them."""
        for master in self.masters.values():
            master.grad = torch.zeros_like(master)
        kept = {name: master.detach().clone() for name, master in self.masters.items()}
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = 0.0
            part.step()
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(kept[name])
        self.forget()


def _named(models: Sequence[nn.Module]) -> dict[str, nn.Parameter]:
    return {name: weight for model in models for name, weight in model.named_parameters()}


def _copy(weight: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(weight.detach().float().clone())


def _optimizers(masters: dict[str, nn.Parameter], s: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """AdamW's and, where it is wanted, Muon's, each with groups of one factor and one decay."""
    kinds: dict[str, dict[tuple[float, float], list[nn.Parameter]]] = {"adamw": {}, "muon": {}}
    for name, master in masters.items():
        matrix, layer = master.ndim == 2, ".layers." in name
        kind = "muon" if s.kind == "muon" and matrix and layer else "adamw"
        decay = s.weight_decay if matrix and (layer or s.decay_embeddings) else 0.0
        factor = s.muon_rate if kind == "muon" else 1.0
        for part in s.rates.keys() & set(name.split(".")):
            factor *= s.rates[part]
        kinds[kind].setdefault((factor, decay), []).append(master)
    groups = {
        kind: [{"params": some, "factor": factor, "weight_decay": decay}
               for (factor, decay), some in found.items()] for kind, found in kinds.items()
    }  # fmt: skip
    parts: list[torch.optim.Optimizer] = []
    if groups["adamw"]:
        parts.append(
            torch.optim.AdamW(groups["adamw"], lr=0.0, betas=(s.beta1, s.beta2), eps=s.eps, fused=True)
        )
    if groups["muon"]:
        parts.append(Muon(groups["muon"]))
    return parts
