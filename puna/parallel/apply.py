"""A model on its rank: built without memory, laid out by name from outside, then given room.

In this order: stages of a pipeline, pieces of matrices, compiled blocks, what is recomputed, shards. Each
wraps what the one before made (measured: recomputing inside a compiled block fails with pieces of matrices).
"""

import torch

from puna.model.config import ModelConfig
from puna.model.transformer import Llama
from puna.parallel.compile import compiled
from puna.parallel.cut import cut
from puna.parallel.fsdp import shard
from puna.parallel.recompute import recompute
from puna.parallel.tensor import split
from puna.parallel.world import World


def build(config: ModelConfig, world: World, compute: torch.dtype) -> list[Llama]:
    """This rank's part of a model, its weights not yet filled: its stages of a pipeline, else one model."""
    return [_stage(config, world, compute, stage) for stage in world.stages]


def _stage(config: ModelConfig, world: World, compute: torch.dtype, stage: int) -> Llama:
    layout = world.layout
    with torch.device("meta"):
        model = Llama(config)
    if layout.pipeline > 1:
        cut(model, stage, layout.all_stages)
    if layout.tensor > 1:
        split(model, world)
    for block in model.model.layers.values():
        if layout.compile:
            compiled(block)
        if layout.recompute != "none":
            recompute(block, layout.recompute)
    if world.mesh is not None:
        shard(model, world, compute)
    model.to_empty(device=world.device)
    if config.tie_word_embeddings:  # to_empty gives each name a tensor of its own
        model.lm_head.weight = model.model.embed_tokens.weight
    return model
