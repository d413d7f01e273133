"""Every matrix in pieces, one a rank; between the matrices each rank holds its own stretch of every sequence
(tensor and sequence parallelism) [P 3.3.2].

q, k, v, gate and up hold some of the outputs, o and down some of the inputs: before the first the sequence is
gathered, after the last what each rank found is summed and scattered over the sequence. A rank mixes its own
heads over whole sequences, so attention knows nothing of this. By name and from outside, with DTensors.
"""

from torch import Tensor, nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from puna.model.transformer import Llama
from puna.parallel.world import World

STRETCH, WHOLE = Shard(1), Replicate()  # of a sequence: hidden states are (B, T, D)


def split(model: Llama, world: World) -> None:
    """Lay a model, or a stage of one, over the ranks of `tensor`.

    `read` of the model's forward is handed DTensors: the head in pieces of the vocabulary, and the hidden
    states whole with `loss_parallel`, else this rank's stretch of them.
    """
    mesh = world.mesh["tensor"]
    at_head = WHOLE if world.layout.loss_parallel else STRETCH
    outer: dict[str, ParallelStyle] = {}
    if model.model.embed_tokens is not None:
        outer["model.embed_tokens"] = RowwiseParallel(input_layouts=WHOLE, output_layouts=STRETCH)
    if model.model.norm is not None:
        outer["model.norm"] = SequenceParallel()
        outer["model"] = PrepareModuleOutput(
            output_layouts=STRETCH, desired_output_layouts=at_head, use_local_output=False
        )
    if model.lm_head is not None:
        outer["lm_head"] = ColwiseParallel(input_layouts=at_head, output_layouts=WHOLE)
    parallelize_module(model, mesh, outer)
    for block in model.model.layers.values():
        parallelize_module(block, mesh, _block_styles())
    if model.model.embed_tokens is not None:
        model.model.embed_tokens.register_forward_hook(_arrived)
        if model.config.tie_word_embeddings and model.lm_head is not None:
            model.lm_head.weight = model.model.embed_tokens.weight  # each style made a tensor of its own


def _block_styles() -> dict[str, ParallelStyle]:
    some_outputs, some_inputs = ColwiseParallel(), RowwiseParallel(output_layouts=STRETCH)
    return {
        "input_layernorm": SequenceParallel(),
        "self_attn": PrepareModuleInput(
            input_layouts=(STRETCH, None, None, None), desired_input_layouts=(WHOLE, None, None, None)
        ),
        "self_attn.q_proj": some_outputs,
        "self_attn.k_proj": some_outputs,
        "self_attn.v_proj": some_outputs,
        "self_attn.o_proj": some_inputs,
        "post_attention_layernorm": SequenceParallel(),
        "mlp": PrepareModuleInput(input_layouts=(STRETCH,), desired_input_layouts=(WHOLE,)),
        "mlp.gate_proj": some_outputs,
        "mlp.up_proj": some_outputs,
        "mlp.down_proj": some_inputs,
    }


def _arrived(module: nn.Module, given: tuple, hidden: Tensor) -> Tensor:
    """A tensor still on its way loses its gradient where it enters a compiled block (pytorch 184980)."""
    return hidden.clone()
