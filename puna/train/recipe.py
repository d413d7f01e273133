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

import math
import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from puna.errors import ConfigError, need
from puna.model.config import ModelConfig, RopeScaling
from puna.parallel.layout import Layout
from puna.settings import Settings
from puna.train.average import AverageSettings
from puna.train.cuda import CudaSettings
from puna.train.guard import GuardSettings
from puna.train.health import HealthSettings
from puna.train.optimizer import OptimizerSettings
from puna.train.schedule import Schedule

Count = Annotated[int, Field(ge=1)]
RECIPES = Path(__file__).parent.parent / "recipes"  # those that come with Puna


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
    batch_from: Count | None = None  # sequences in its first step; None: as many as in the others
    ramp: Annotated[int, Field(ge=0)] = 0  # tokens in which the batch grows, by what divides both sizes
    weights: dict[str, Annotated[float, Field(ge=0)]]  # set of shards -> its weight
    rope: Rope = Rope()

    @model_validator(mode="after")
    def ramp_is_whole(self) -> "Stage":
        both, fits = (self.batch_from is None) == (not self.ramp), self.ramp <= self.tokens
        need(both, "a ramp has a first batch and a length", "both of batch_from and ramp", ConfigError)
        need(fits, f"a ramp of {self.ramp:,} tokens in a stage of {self.tokens:,}", error=ConfigError)
        rises = self.batch_from is None or self.batch_from < self.batch
        need(rises, f"batch_from = {self.batch_from} does not rise to {self.batch}", error=ConfigError)
        return self

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """(steps, sequences in each of them), one after the other; the last ones are of `batch`."""
        if self.batch_from is None:
            return ((max(1, self.tokens // (self.sequence * self.batch)), self.batch),)
        return _ramp(self.tokens, self.sequence, self.batch_from, self.batch, self.ramp)

    @property
    def steps(self) -> int:
        return sum(steps for steps, _ in self.batches)

    @property
    def sequences(self) -> int:
        """That it reads in all its steps."""
        return sum(steps * size for steps, size in self.batches)

    def at(self, step: int) -> tuple[int, int]:
        """(first sequence, how many) of one of its steps; it would go on as it ends."""
        first = 0
        for steps, size in self.batches[:-1]:
            if step < steps:
                return first + step * size, size
            first, step = first + steps * size, step - steps
        return first + step * self.batch, self.batch


@lru_cache
def _ramp(tokens: int, sequence: int, first: int, last: int, ramp: int) -> tuple[tuple[int, int], ...]:
    """The batches of a stage that grow from `first` to `last` sequences over `ramp` of its tokens."""
    sizes, found, read = range(first, last, math.gcd(first, last)), [], 0
    for number, size in enumerate(sizes, 1):
        left = ramp * number // len(sizes) - read
        steps = max(0, -(-left // (sequence * size)))
        found.append((steps, size))
        read += steps * size * sequence
    found.append((max(0, tokens - read) // (sequence * last), last))
    return tuple(found)


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
    average: AverageSettings = AverageSettings()
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
    prefetch: Annotated[int, Field(ge=0)] = 2  # batches that are made while others are learned from
    held_out: Annotated[float, Field(ge=0, lt=0.5)] = (
        0.01  # share of each set, at its end, that is only read to judge
    )
    judge_every: Count = 100  # steps
    judged: Count = 64  # held-out sequences of each set; few short ones are few texts, and say little
    statistics_every: Annotated[int, Field(ge=0)] = 0  # steps; 0: never
    samples: tuple[str, ...] = ()  # beginnings of texts that the model goes on with while it trains
    sample_every: Count = 100  # steps
    tensorboard: bool = False  # also write the records where TensorBoard reads them: RUN/tensorboard

    @model_validator(mode="after")
    def stages_name_their_data(self) -> "TrainRecipe":
        for number, stage in enumerate(self.stage, 1):
            unknown = sorted(set(stage.weights) - set(self.data))
            known = ", ".join(self.data)
            need(not unknown, f"stage {number}: no data named {unknown[:1]}", f"one of {known}", ConfigError)
        return self

    @property
    def ends(self) -> tuple[int, ...]:
        """Steps after which each stage is over."""
        return tuple(accumulate(stage.steps for stage in self.stage))

    @property
    def steps(self) -> int:
        return self.ends[-1]

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.schedule.rate(step, self.steps, self.stage[-1].steps)

    def shapes(self, model: ModelConfig) -> list[ModelConfig]:
        """The model's numbers in each stage: those it begins with, RoPE as the stages so far change it."""
        said = [{name: value for name, value in stage.rope if value is not None} for stage in self.stage]
        return list(accumulate(said, lambda one, more: one.model_copy(update=more), initial=model))[1:]

    def shape(self, model: ModelConfig, step: int) -> ModelConfig:
        """Those of a step; after the last one, those of the model that is written."""
        return self.shapes(model)[min(bisect_right(self.ends, step), len(self.ends) - 1)]


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> TrainRecipe:
    """The recipe of a TOML file, or one that comes with Puna; overrides are pairs: --schedule.peak 1e-3."""
    own, path = RECIPES / f"{path}.toml", Path(path)
    path = own if own.is_file() and not path.is_file() else path
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
