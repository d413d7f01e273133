"""The mean of a run's weights over its last steps is a better model than its last weights [P 3.4.3].

Llama 3's final model is such a mean, of checkpoints of the annealing. It is taken of the masters, piece by
piece where they are sharded, and is part of a checkpoint, so a run that was stopped has the same mean.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.distributed.checkpoint as dcp
from pydantic import Field
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.tensor import DTensor

from puna.errors import DataError, need
from puna.settings import Settings


class AverageSettings(Settings):
    last: Annotated[int, Field(ge=0)] | Literal["stage"] = 0  # steps at the end, or the last stage; 0: none
    every: Annotated[int, Field(ge=1)] = 1  # steps
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share that a mean keeps of itself; 0: all count alike


class Average:
    """The mean of `masters` as it grows in a run of `steps`."""

    def __init__(self, settings: AverageSettings, masters: dict[str, Tensor], steps: int, last_stage: int):
        self.settings, self.masters, self.steps = settings, masters, steps
        self.begins = steps - (last_stage if settings.last == "stage" else settings.last)
        self.count = 0  # of weights in the mean
        self.means: dict[str, Tensor] = {}  # none before the first

    @torch.no_grad()
    def take(self, step: int) -> None:
        """Take in the weights that a step left, if it is one of those; the last step is."""
        if step < self.begins or (self.steps - 1 - step) % self.settings.every:
            return
        self.expect(self.count + 1)
        share = (1 - self.settings.decay) if self.settings.decay and self.count > 1 else 1 / self.count
        for name, mean in self.means.items():
            own_piece(mean).lerp_(own_piece(self.masters[name]), share)

    def expect(self, count: int) -> None:
        """Room for a mean of so many, as a checkpoint has it."""
        if not count:
            self.means = {}
        elif not self.means:
            self.means = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        self.count = count

    def state(self) -> dict[str, Tensor]:
        return {f"mean.{name}": mean.detach() for name, mean in self.means.items()}

    @contextmanager
    def as_weights(self) -> Iterator[None]:
        """The masters are the mean while the block runs. To be published before it and after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mean in self.means.items():
            mean, master = own_piece(mean), own_piece(self.masters[name])
            kept = master.clone()
            master.copy_(mean)
            mean.copy_(kept)


def own_piece(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def mean_of(checkpoints: Sequence[Path]) -> Iterator[tuple[str, Tensor]]:
    """(name, mean in fp32) of the weights of some checkpoints of a run, one tensor at a time."""
    found = [_weights(path) for path in checkpoints]
    need(found, "no checkpoints to take the mean of", error=DataError)
    odd = [path for path, shapes in zip(checkpoints, found, strict=True) if shapes != found[0]]
    need(not odd, f"{odd[:1]} is of another model than {checkpoints[0]}", error=DataError)
    for key, shape in found[0].items():
        mean, one = torch.zeros(shape), torch.empty(shape)
        for number, path in enumerate(checkpoints, 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is one process only
                dcp.load({key: one}, checkpoint_id=path / "tensors", no_dist=True)
            mean.lerp_(one, 1 / number)
        yield key.removeprefix("weights."), mean


def _weights(path: Path) -> dict[str, torch.Size]:
    kept = FileSystemReader(path / "tensors").read_metadata().state_dict_metadata
    return {key: held.size for key, held in kept.items() if key.startswith("weights.")}
