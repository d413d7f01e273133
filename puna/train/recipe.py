"""A recipe of training: the model, the stages it reads its data in, and what moves the weights. From TOML.

name = "nano"
tokenizer = "vocabulary"
[model]
hidden_size = 256 ...
[data]
web = "run/42-tokens.shards/files"
[[stage]]
tokens = 4_000_000
sequence = 512
batch = 16
weights = { web = 1.0 }
[schedule]
peak = 2e-3
"""

import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from puna.errors import ConfigError, need
from puna.model.config import ModelConfig, RopeScaling
from puna.parallel.layout import Layout
from puna.settings import Settings
from puna.train.cuda import CudaSettings
from puna.train.guard import GuardSettings
from puna.train.health import HealthSettings
from puna.train.optimizer import OptimizerSettings
from puna.train.schedule import Schedule

Count = Annotated[int, Field(ge=1)]


class Rope(Settings):
    """What a stage changes of the model for longer sequences, from there on [P 3.4.2]; None: as before."""

    rope_theta: Annotated[float, Field(gt=0)] | None = None
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: Count | None = None


class Stage(Settings):
    """A stretch of training with one sequence length, batch and mix of data."""

    tokens: Count
    sequence: Count
    batch: Count  # sequences in a step
    weights: dict[str, Annotated[float, Field(ge=0)]]  # set of shards -> its weight
    rope: Rope = Rope()

    @property
    def steps(self) -> int:
        return max(1, self.tokens // (self.sequence * self.batch))


class TrainRecipe(Settings):
    name: str = "train"
    seed: int = 0
    model: ModelConfig | str  # a shape, or a MODEL to go on from
    tokenizer: Path | None = None  # None: the one of the MODEL
    data: dict[str, Path]  # name -> a folder of token shards
    stage: tuple[Stage, ...] = Field(min_length=1)
    schedule: Schedule
    optimizer: OptimizerSettings = OptimizerSettings()
    health: HealthSettings = HealthSettings()
    layout: Layout = Layout()  # of ranks; where none is given and there are several, each holds a shard
    guard: GuardSettings = GuardSettings()
    # what the model computes in; masters are fp32, or fp64. fp8: bf16, but for the layers' products (fp8.py)
    dtype: Literal["fp64", "fp32", "bf16", "fp8"] = "bf16"
    fp8_ends: bool = False  # the first and the last block too
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cuda: CudaSettings = CudaSettings()
    micro: Count = 8  # sequences that go through the model at once
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    checkpoint_every: Count = 200  # steps
    checkpoints: str | None = None  # an address such as s3://bucket/nano: they are kept there too
    keep: Count = 2
    keep_every: Annotated[int, Field(ge=0)] = 0  # steps; 0: none is kept beside the newest
    held_out: Annotated[float, Field(ge=0, lt=0.5)] = (
        0.01  # share of each set, at its end, that is only read to judge
    )
    judge_every: Count = 100  # steps

    @model_validator(mode="after")
    def stages_name_their_data(self) -> "TrainRecipe":
        for number, stage in enumerate(self.stage, 1):
            unknown = sorted(set(stage.weights) - set(self.data))
            known = ", ".join(self.data)
            need(not unknown, f"stage {number}: no data named {unknown[:1]}", f"one of {known}", ConfigError)
        return self

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stage)

    def shapes(self, model: ModelConfig) -> list[ModelConfig]:
        """The model's numbers in each stage: those it begins with, RoPE as the stages so far change it."""
        said = [{name: value for name, value in stage.rope if value is not None} for stage in self.stage]
        return list(accumulate(said, lambda one, more: one.model_copy(update=more), initial=model))[1:]

    def shape(self, model: ModelConfig, step: int) -> ModelConfig:
        """Those of a step; after the last one, those of the model that is written."""
        ends = list(accumulate(stage.steps for stage in self.stage))
        return self.shapes(model)[min(bisect_right(ends, step), len(ends) - 1)]


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainRecipe:
    """The recipe of a TOML file; overrides are pairs such as --schedule.peak 1e-3."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(
            f"{path}: {problem.strerror}\n  try: the path of a recipe, see docs/train.md"
        ) from None
    except ValueError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from None
    need(len(overrides) % 2 == 0, f"{overrides[-1:]}: a setting without a value", error=ConfigError)
    for name, value in zip(overrides[::2], overrides[1::2], strict=True):
        _set(said, name.removeprefix("--").split("."), value)
    return TrainRecipe.read(said, str(path))


def _set(said: dict[str, Any], names: list[str], value: str) -> None:
    for name in names[:-1]:
        said = said.setdefault(name, {})
        need(isinstance(said, dict), f"--{'.'.join(names)}: {name} is a single value", error=ConfigError)
    try:
        said[names[-1]] = tomllib.loads(f"value = {value}")["value"]
    except ValueError:
        said[names[-1]] = value
