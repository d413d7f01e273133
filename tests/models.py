"""Tiny real models for tests: random weights, the traits of the published ones."""

from collections.abc import Iterable

import torch

from puna.model.config import ModelConfig, RopeScaling
from puna.model.transformer import Llama

NANO = ModelConfig(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=176,
    vocab_size=512,
    max_position_embeddings=1024,
)
TRAITS = {  # each published model's ratios, in small: heads per group, tied or not, RoPE factor
    "3-8b": NANO,
    "3.1-8b": NANO.model_copy(update={"rope_scaling": RopeScaling(factor=8.0)}),
    "3.1-405b": NANO.model_copy(
        update={
            "num_attention_heads": 16,
            "num_key_value_heads": 1,
            "hidden_size": 128,
            "rope_scaling": RopeScaling(factor=8.0),
        }
    ),
    "3.2-1b": NANO.model_copy(
        update={
            "tie_word_embeddings": True,
            "rope_scaling": RopeScaling(factor=32.0),
            "head_dim": 64,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
        }
    ),
    "3.2-3b": NANO.model_copy(
        update={
            "tie_word_embeddings": True,
            "rope_scaling": RopeScaling(factor=32.0),
            "head_dim": 128,
            "hidden_size": 384,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
        }
    ),
    "smollm2-135m": NANO.model_copy(
        update={
            "tie_word_embeddings": True,
            "rope_theta": 100_000.0,
            "hidden_size": 72,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        }
    ),
    "llama2-7b": NANO.model_copy(update={"num_key_value_heads": 8, "rope_theta": 10_000.0}),
}


def random_model(config: ModelConfig, seed: int = 0) -> Llama:
    """A model whose matrices keep the size of what they read, roughly, and whose norms are near one."""
    spread = 0.7 / config.hidden_size**0.5
    generator = torch.Generator().manual_seed(seed)
    model = Llama(config).requires_grad_(False).eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * spread
        parameter.copy_(noise + (1 if parameter.ndim == 1 else 0))
    return model


class InMemory:
    """The weights of a model that is already here."""

    def __init__(self, model: Llama, where: str = "memory"):
        self.config, self.where, self._tensors = model.config, where, model.state_dict()

    def names(self) -> Iterable[str]:
        return self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def kind(self, name: str) -> str:
        return {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[self._tensors[name].dtype]

    def read(self, name: str) -> torch.Tensor:
        return self._tensors[name]
