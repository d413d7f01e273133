"""Activations made again in the backward pass instead of kept: time for room.

Full keeps what enters each block. Selective keeps besides what the built-in attention gave and every second
product of a matrix, so that half of them and no attention are done again. In a compiled block products cannot
be told apart, and only attention is kept (measured).
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

ops = torch.ops.aten
ATTENTION = {  # what F.scaled_dot_product_attention becomes
    ops._scaled_dot_product_flash_attention_for_cpu.default,
    ops._scaled_dot_product_flash_attention.default,
    ops._scaled_dot_product_efficient_attention.default,
    ops._scaled_dot_product_cudnn_attention.default,
}


def recompute(block: nn.Module, kind: str) -> None:
    """From now on this block remembers less. kind: "selective" or "full"."""
    more = {"context_fn": _contexts} if kind == "selective" else {}
    # the forward function, not a module around the block: parameters keep their names
    block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False, **more)


def _contexts() -> tuple[Any, Any]:
    """For one pass through a block and its repetition."""
    return create_selective_checkpoint_contexts(_Policy())


class _Policy:
    """Called for each operation of a block, in order, in the pass and again in the repetition."""

    def __init__(self):
        self.products = {False: 0, True: 0}

    def __call__(self, context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        keep = op in ATTENTION
        if op == ops.mm.default:
            self.products[context.is_recompute] += 1
            keep = (
                self.products[context.is_recompute] % 2 == 0
            )  # k, o, up: the last, down, is never made again
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE
