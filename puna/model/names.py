"""One tensor, three names: Hugging Face's (ours), Meta's and GGUF's; and the two row orders of q and k.

Meta's files and GGUF turn neighbouring channels (0,1), (2,3)...; ours turn (i, i + Dh/2). `to_half_split` and
`to_interleaved` reorder the rows of q_proj and k_proj between the two [llama3.md 1.3: checked numerically].
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from puna.model.config import ModelConfig

if TYPE_CHECKING:
    import numpy as np  # for their names only: plans read shapes without them
    import torch

Matrix = TypeVar("Matrix", "torch.Tensor", "np.ndarray")

_WHOLE = {  # ours: (Meta, GGUF)
    "model.embed_tokens": ("tok_embeddings", "token_embd"),
    "model.norm": ("norm", "output_norm"),
    "lm_head": ("output", "output"),
}
_BLOCK = {
    "input_layernorm": ("attention_norm", "attn_norm"),
    "self_attn.q_proj": ("attention.wq", "attn_q"),
    "self_attn.k_proj": ("attention.wk", "attn_k"),
    "self_attn.v_proj": ("attention.wv", "attn_v"),
    "self_attn.o_proj": ("attention.wo", "attn_output"),
    "post_attention_layernorm": ("ffn_norm", "ffn_norm"),
    "mlp.gate_proj": ("feed_forward.w1", "ffn_gate"),
    "mlp.up_proj": ("feed_forward.w3", "ffn_up"),
    "mlp.down_proj": ("feed_forward.w2", "ffn_down"),
}
_OURS = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


def shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model and its shape (out, in), in the order of the file; a tied head is not a
    tensor.
    """
    c = config
    queries, groups = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    block = {
        "input_layernorm": (c.hidden_size,),
        "self_attn.q_proj": (queries, c.hidden_size),
        "self_attn.k_proj": (groups, c.hidden_size),
        "self_attn.v_proj": (groups, c.hidden_size),
        "self_attn.o_proj": (c.hidden_size, queries),
        "post_attention_layernorm": (c.hidden_size,),
        "mlp.gate_proj": (c.intermediate_size, c.hidden_size),
        "mlp.up_proj": (c.intermediate_size, c.hidden_size),
        "mlp.down_proj": (c.hidden_size, c.intermediate_size),
    }
    yield "model.embed_tokens.weight", (c.vocab_size, c.hidden_size)
    for layer in range(c.num_hidden_layers):
        for name, shape in block.items():
            yield f"model.layers.{layer}.{name}.weight", shape
    yield "model.norm.weight", (c.hidden_size,)
    if not c.tie_word_embeddings:
        yield "lm_head.weight", (c.vocab_size, c.hidden_size)


def to_meta(name: str) -> str:
    """Meta's name of one of our tensors."""
    return _renamed(name, 0, "layers")


def to_gguf(name: str) -> str:
    """GGUF's name of one of our tensors."""
    return _renamed(name, 1, "blk")


def _renamed(name: str, column: int, block: str) -> str:
    match = _OURS.fullmatch(name)
    if match:
        return f"{block}.{match[1]}.{_BLOCK[match[2]][column]}.weight"
    return _WHOLE[name.removesuffix(".weight")][column] + ".weight"


def heads_turned(name: str, config: ModelConfig) -> int:
    """How many heads' rows RoPE turns in this tensor: those of q_proj and k_proj, else 0."""
    if name.endswith("q_proj.weight"):
        return config.num_attention_heads
    return config.num_key_value_heads if name.endswith("k_proj.weight") else 0


def to_half_split(weight: Matrix, heads: int) -> Matrix:
    """Rows from Meta's and GGUF's order to ours; weight is (heads * Dh, D)."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def to_interleaved(weight: Matrix, heads: int) -> Matrix:
    """Rows from our order to Meta's and GGUF's: the inverse of to_half_split."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
