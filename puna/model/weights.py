"""A model's tensors on disk, read one at a time: what every layout offers, and how a model is filled from it."""

from collections.abc import Iterator
from typing import Protocol

import torch

from puna.model.config import ModelConfig


class Weights(Protocol):
    """The tensors of one model by Hugging Face name, in Hugging Face layout (half-split RoPE), never all in memory."""

    config: ModelConfig
    where: str  # for messages

    def names(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def kind(self, name: str) -> str:
        """How the file stores it: F32, F16, BF16, Q4_K, ..."""

    def read(self, name: str) -> torch.Tensor:
        """One tensor, dense: as stored for F32, F16 and BF16, dequantised to fp32 otherwise."""
