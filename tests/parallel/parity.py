"""A few steps of a small model in one layout, through the trainer's own code: losses, lengths, weights."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from puna.model.config import ModelConfig
from puna.model.init import initialize
from puna.model.transformer import Llama
from puna.parallel.apply import build
from puna.parallel.context import attention, own
from puna.parallel.layout import Layout
from puna.parallel.pipeline import Pipeline
from puna.parallel.world import World
from puna.train.batches import Part, next_token_loss
from puna.train.health import Health, HealthSettings
from puna.train.optimizer import Optimizer, OptimizerSettings
from puna.train.step import Accumulate, Position, Step, in_turn, steps

CONFIG = ModelConfig(
    hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=128, vocab_size=320, max_position_embeddings=64,
)  # fmt: skip
BATCH, SEQUENCE = 8, 64
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}


def columns(number: int) -> list[torch.Tensor]:
    """Batch `number`, (B, T) each: documents of uneven lengths, so of uneven counts of valid targets."""
    dice = torch.Generator().manual_seed(number)
    tokens = torch.randint(0, CONFIG.vocab_size, (BATCH, SEQUENCE), generator=dice)
    begins = torch.rand(BATCH, SEQUENCE, generator=dice) < torch.arange(1, BATCH + 1)[:, None] / 50
    documents = begins.long().cumsum(1)
    place = torch.arange(SEQUENCE).expand(BATCH, SEQUENCE)
    starts = torch.where(begins, place, 0).cummax(1).values
    weights = torch.zeros(BATCH, SEQUENCE)
    weights[:, :-1] = (documents[:, 1:] == documents[:, :-1]).float()
    return [tokens, tokens.roll(-1, 1), place - starts, documents, weights]


def share(world: World, micro: int):
    """batches(n) of this rank: its sequences, in parts of `micro`."""

    def batches(number: int) -> list[Part]:
        count = BATCH // world.layout.readers
        first = (world.mesh["readers"].get_local_rank() if world.mesh is not None else 0) * count
        split = [column[first : first + count].split(micro) for column in columns(number)]
        return [own(Part(*part), world) for part in zip(*split, strict=True)]

    return batches


@dataclass
class Trainee:
    """A model on its ranks, with what trains it."""

    world: World
    models: list[Llama]
    optimizer: Optimizer
    accumulate: Accumulate
    position: Position

    def steps(self, batches, until: int) -> list[Step]:
        """Train on, to step `until`."""
        rate, health = (lambda _: 1e-2), Health(HealthSettings())
        return list(
            steps(self.accumulate, self.optimizer, batches, rate, health, self.position, until, self.world)
        )


def trainee(layout: dict, dtype: str = "fp64", **config) -> Trainee:
    world, c, kind = World(Layout(**layout)), CONFIG.model_copy(update=config), DTYPES[dtype]
    models = build(c, world, kind)
    for model in models:
        if dtype == "fp64":
            model.double()
        initialize(model, c, 0)
    optimizer = Optimizer(models, OptimizerSettings(), None if world.mesh is not None else kind, world)
    loss = partial(next_token_loss, attention=attention(world))
    pipeline = world.layout.pipeline > 1
    accumulate = Pipeline(models, loss, world, kind) if pipeline else in_turn(models[0], loss)
    return Trainee(world, models, optimizer, accumulate, Position())


def trained(layout: dict, dtype: str = "fp64", micro: int = 1, until: int = 3, **config) -> dict:
    """Train; {"losses", "gradients", "weights" (whole tensors by name)}."""
    found = trainee(layout, dtype, **config)
    return told(found, found.steps(share(found.world, micro), until))


def told(found: Trainee, steps: list[Step]) -> dict:
    return {
        "losses": [step.loss for step in steps],
        "gradients": [step.gradient for step in steps],
        "weights": everywhere(
            {name: whole(weight) for name, weight in found.optimizer.masters.items()}, found.world
        ),
    }


def everywhere(weights: dict[str, torch.Tensor], world: World) -> dict[str, torch.Tensor]:
    """What this rank's stages hold, and what those of the other ranks of its pipeline do."""
    if world.mesh is None:
        return weights
    found: list = [None] * world.layout.pipeline
    dist.all_gather_object(found, weights, group=world.mesh["pipeline"].get_group())
    assert len(set().union(*found)) == sum(len(one) for one in found)
    return {name: weight for one in found for name, weight in one.items()}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def apart(one: dict, other: dict) -> dict[str, float]:
    """The largest difference of losses, of lengths (relative), and of weights."""
    return {
        "losses": max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True)),
        "gradients": max(abs(a / b - 1) for a, b in zip(one["gradients"], other["gradients"], strict=True)),
        "weights": max(float((one["weights"][name] - other["weights"][name]).abs().max())
                       for name in one["weights"] | other["weights"]),
    }  # fmt: skip
