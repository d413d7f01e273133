"""A model on its rank: built without memory, laid out by name from outside, then given room."""

import torch

from puna.model.config import ModelConfig
from puna.model.transformer import Llama
from puna.parallel.cut import cut
from puna.parallel.fsdp import shard
from puna.parallel.world import World


def build(config: ModelConfig, world: World, compute: torch.dtype) -> list[Llama]:
    """This rank's part of a model, its weights not yet filled: its stages of a pipeline, else one model."""
    return [_stage(config, world, compute, stage) for stage in world.stages]


def _stage(config: ModelConfig, world: World, compute: torch.dtype, stage: int) -> Llama:
    with torch.device("meta"):
        model = Llama(config)
    if world.layout.pipeline > 1:
        cut(model, stage, world.layout.all_stages)
    if world.mesh is not None:
        shard(model, world, compute)
    model.to_empty(device=world.device)
    if config.tie_word_embeddings:  # to_empty gives each name a tensor of its own
        model.lm_head.weight = model.model.embed_tokens.weight
    return model
