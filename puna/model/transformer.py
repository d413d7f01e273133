"""The dense transformer of the Llama family, whole: tokens in, hidden states out, logits by the head.

It knows no mask, cache, batch layout or rank. It is handed `attend(layer, q, k, v) -> mixed`, which
remembers and mixes; causal rows, packed documents, a cache and context parallelism are values of that one
argument (attend.py). Module names are Hugging Face's, so the state dict is the file.

Letters: B rows, T new positions, D width, H query heads, K key-value heads, Dh head width, F hidden width,
V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.model.config import ModelConfig
from puna.model.rope import angles, at_least_fp32, rotate

# layer, q (..., H, Dh), k and v (..., K, Dh) -> mixed (..., H, Dh)
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
# hidden (..., D), head (V, D) -> what is wanted of them: a loss needs no logits of all rows at once
Read = Callable[[Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    """Scale to unit mean square in fp32, cast back, then weigh: Meta's order and Hugging Face's."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = at_least_fp32(x)
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    """Grouped-query attention: H/K query heads share one key-value head."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.head_dim = c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, layer: int) -> Tensor:
        q = self.q_proj(x).unflatten(-1, (-1, self.head_dim))  # (..., H, Dh)
        k = self.k_proj(x).unflatten(-1, (-1, self.head_dim))  # (..., K, Dh)
        v = self.v_proj(x).unflatten(-1, (-1, self.head_dim))  # (..., K, Dh)
        mixed = attend(layer, rotate(q, *turn), rotate(k, *turn), v)  # (..., H, Dh)
        return self.o_proj(mixed.flatten(-2))


class MLP(nn.Module):
    """SwiGLU: a gate decides what of the hidden width passes."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.silu(self.gate_proj(x)) * self.up_proj(x)  # (..., F)
        return self.down_proj(hidden)


class Block(nn.Module):
    """Attention, then MLP, each reading a normed copy and adding to the stream."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turn, attend, layer)  # (..., D)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """tokens (...), positions (...), attend -> hidden (..., D), normed and ready for the head.

    A stage of a pipeline is the same with parts taken out (None), and reads hidden states in place of tokens.
    """

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.config = c
        # uninitialised: drawing normal numbers on the meta device imports torch._dynamo, 0.9 s of every start
        table = torch.empty(c.vocab_size, c.hidden_size)
        self.embed_tokens = nn.Embedding.from_pretrained(table, freeze=False)
        # a dict: a stage of a pipeline holds some of the layers, under their own names
        self.layers = nn.ModuleDict({str(layer): Block(c) for layer in range(c.num_hidden_layers)})
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        hidden = self.embed_tokens(tokens) if self.embed_tokens is not None else tokens  # (..., D)
        turn = angles(positions, self.config)
        for layer, block in self.layers.items():
            hidden = block(hidden, turn, attend, int(layer))  # (..., D)
        return self.norm(hidden) if self.norm is not None else hidden


class Llama(nn.Module):
    """Body and head, named as in a Hugging Face file: model.layers.0.self_attn.q_proj, lm_head."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.model = Transformer(c)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        if c.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend, read: Read | None = None) -> Tensor:
        """Logits (..., V), fp32 at least; or what `read` makes of the hidden states and the head.

        Without a head, as a stage of a pipeline, the hidden states.
        """
        hidden = self.model(tokens, positions, attend)  # (..., D)
        if self.lm_head is None:
            return hidden
        return at_least_fp32(self.lm_head(hidden)) if read is None else read(hidden, self.lm_head.weight)
