"""Every tensor in pieces, one a rank, gathered when its block needs it; gradients add up in fp32 (FSDP2)."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from puna.model.transformer import Llama
from puna.parallel.world import World


def shard(model: Llama, world: World, compute: torch.dtype) -> None:
    """Shard a model's weights over `shard` and `context`; copies of the shards stand along `replicate`.

    The weights themselves are the masters; the model computes in `compute`.
    """
    layout = world.layout
    mesh = world.mesh["replicate", "fsdp"] if layout.replicate > 1 else world.mesh["fsdp"]
    wide = compute if compute == torch.float64 else torch.float32
    # inputs are not cast: among them are the turns of RoPE, which 16 bits would spoil
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=wide, cast_forward_inputs=False)
    again = layout.reshard or ("never" if layout.pipeline > 1 else "always")
    after = {"always": True, "never": False}.get(again, again)
    for block in model.model.layers.values():
        fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=after)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=after)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # the loss is already divided by the tokens of all ranks
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot divide while it adds


def let_go(models: Iterable[nn.Module]) -> None:
    """Gathered weights, after a pass without gradients: else they stay, even if others are read next."""
    for module in (module for model in models for module in model.modules()):
        if isinstance(module, FSDPModule):
            module.reshard()
