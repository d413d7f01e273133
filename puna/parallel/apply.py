"""A model on its rank: built without memory, laid out by name from outside, then given room."""

import torch

from puna.model.config import ModelConfig
from puna.model.transformer import Llama
from puna.parallel.fsdp import shard
from puna.parallel.world import World


def build(config: ModelConfig, world: World, compute: torch.dtype) -> Llama:
    """This rank's part of a model, its weights not yet filled."""
    with torch.device("meta"):
        model = Llama(config)
    if world.mesh is not None:
        shard(model, world, compute)
    model.to_empty(device=world.device)
    if config.tie_word_embeddings:  # to_empty gives each name a tensor of its own
        model.lm_head.weight = model.model.embed_tokens.weight
    return model
