"""A checkpoint's weights, whole again whatever ranks wrote them: what `model/` is written from at the end."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch.distributed.checkpoint import FileSystemReader

from puna.model.config import ModelConfig
from puna.model.names import shapes
from puna.train.checkpoint import read


class SavedWeights:
    """The masters in a checkpoint as weights of a model, or their mean; one tensor at a time is in memory."""

    def __init__(self, path: Path, config: ModelConfig, kind: str = "weights"):
        """kind: "weights", or "mean" where one was taken."""
        self.path, self.config, self.where, self._kind = path, config, str(path), kind
        self._held = FileSystemReader(path / "tensors").read_metadata().state_dict_metadata

    def names(self) -> Iterable[str]:
        return [name for name, _ in shapes(self.config)]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._held[f"{self._kind}.{name}"].size)

    def kind(self, name: str) -> str:
        return "F32"

    def read(self, name: str) -> torch.Tensor:
        tensor = torch.empty(self.shape(name), dtype=self._held[f"{self._kind}.{name}"].properties.dtype)
        read(self.path, {f"{self._kind}.{name}": tensor})
        return tensor.float()

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        return self.read(name)[first:last]
