"""LoRA adapters as PEFT writes them: a small change of some projections, kept beside the model's weights.

A projection W becomes W + scale · up · down, with down (r, in) and up (out, r) of a low rank r. Nothing is
merged: y = Wx + scale · up(down x), so requests with different adapters share one model. What a setting of
PEFT would change beyond that is refused, never ignored. No torch here.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from safetensors import SafetensorError, deserialize

from puna.errors import ConfigError, WeightsError, need
from puna.model.config import ModelConfig, read_json
from puna.model.names import shapes
from puna.settings import Settings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KINDS = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}  # of BF16 the bits
# Settings of how an adapter was trained or where it came from. The rest must be empty, or is told below.
PAST = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "qalora_group_size", "layers_pattern", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
REASONS = {
    "use_dora": "DoRA also changes the length of the weights' rows",
    "fan_in_fan_out": "its matrices lie the other way round",
    "modules_to_save": "it replaces whole layers of the model",
    "lora_bias": "it adds biases, and a Llama has none",
    "trainable_token_indices": "it changes the embedding",
    "layer_replication": "it makes another model of other layers",
    "alora_invocation_tokens": "it works only after certain tokens",
}
REWRITES = "pissa", "olora", "corda", "loftq", "lora_ga"  # their beginning is taken off the model's weights
_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to one projection."""

    kind: str  # of KINDS
    down: np.ndarray  # (r, in), PEFT's lora_A
    up: np.ndarray  # (out, r), PEFT's lora_B, rows in the model's half-split order
    scale: float


@dataclass(frozen=True)
class Adapter:
    """The changes by the name of the projection, "model.layers.0.self_attn.q_proj"."""

    where: str
    parts: dict[str, LowRank]


class Peft(Settings):
    """What adapter_config.json says about the weights."""

    peft_type: Literal["LORA"]
    r: int = Field(8, ge=1)
    lora_alpha: float = 8
    use_rslora: bool = False
    target_modules: str | list[str]
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    rank_pattern: dict[str, Annotated[int, Field(ge=1)]] = {}
    alpha_pattern: dict[str, float] = {}
    bias: Literal["none"] = "none"
    init_lora_weights: bool | str | None = True

    @field_validator("init_lora_weights")
    @classmethod
    def leaves_the_model_as_it_is(cls, value: bool | str | None) -> bool | str | None:
        rewrites = isinstance(value, str) and value.lower().startswith(REWRITES)
        need(not rewrites, f"init_lora_weights {value!r} changes the model's own weights, too",
             "an adapter converted to plain LoRA when it was saved", ConfigError)  # fmt: skip
        return value

    @field_validator("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern")
    @classmethod
    def can_be_compiled(cls, value: Any, info: ValidationInfo) -> Any:
        for pattern in [value] if isinstance(value, str) else value if isinstance(value, dict) else ():
            try:
                re.compile(pattern)
            except re.error as problem:
                raise ConfigError(f"{info.field_name}: {pattern!r} is no pattern ({problem})") from None
        return value

    def rank(self, name: str) -> int:
        return self.rank_pattern.get(_key(self.rank_pattern, name), self.r)

    def scale(self, name: str) -> float:
        alpha, rank = self.alpha_pattern.get(_key(self.alpha_pattern, name), self.lora_alpha), self.rank(name)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def adapts(self, name: str) -> bool:
        """Whether this projection is meant, by PEFT's rules."""
        if self.exclude_modules and _named(self.exclude_modules, name):
            return False
        if isinstance(self.target_modules, str):
            return self.target_modules == "all-linear" or _named(self.target_modules, name)
        only = self.layers_to_transform
        layers = [only] if isinstance(only, int) else only
        return _named(self.target_modules, name) and (not layers or int(name.split(".")[2]) in layers)


def read_adapter(folder: Path, config: ModelConfig) -> Adapter:
    """The adapter of a PEFT folder, for a model of this shape; WeightsError for what cannot be kept to."""
    need(folder.is_dir(), f"{folder}: no such folder", f"the folder that holds {CONFIG}", WeightsError)
    for file in (CONFIG, WEIGHTS):
        need((folder / file).is_file(), f"{folder}: no {file}", "a folder as PEFT saves it", WeightsError)
    peft, where = _settings(folder / CONFIG), str(folder / WEIGHTS)
    found = _tensors(folder / WEIGHTS)
    parts = {}
    for name, shape in _projections(config):
        halves = found.pop((name, "A"), None), found.pop((name, "B"), None)
        if halves == (None, None) and not peft.adapts(name):
            continue
        need(
            peft.adapts(name), f"{where}: {name} is there, and {CONFIG} does not name it", error=WeightsError
        )
        parts[name] = _part(halves, name, shape, peft, where)
    outside = next((name for name, _ in found), None)
    need(
        outside is None,
        f"{where}: it changes {outside}",
        "an adapter of the layers' projections",
        WeightsError,
    )
    need(parts, f"{where}: it changes nothing", error=WeightsError)
    return Adapter(str(folder), parts)


def _settings(path: Path) -> Peft:
    values = read_json(path)
    need(isinstance(values, dict), f"{path}: not a JSON object", error=WeightsError)
    given = {key: value for key, value in values.items() if key in Peft.model_fields}
    for key in sorted(values.keys() - given.keys() - PAST):
        why = REASONS.get(key, "what it would change is not known here")
        need(not values[key], f"{path}: {key} {values[key]!r} cannot be kept to: {why}",
             "a plain LoRA adapter", WeightsError)  # fmt: skip
    return Peft.read(given, str(path))


def _tensors(path: Path) -> dict[tuple[str, str], tuple[str, np.ndarray]]:
    """{(projection, A or B): (kind, numbers)} of a file; the library checks its header."""
    try:
        stored = deserialize(path.read_bytes())
    except (SafetensorError, OSError) as problem:
        raise WeightsError(f"{path}: not a valid safetensors file ({problem})") from None
    found = {}
    for name, tensor in stored:
        match, kind = _NAME.fullmatch(name), tensor["dtype"]
        need(match, f"{path}: {name} is no low-rank half of a projection: {_why(name)}",
             "a plain LoRA adapter", WeightsError)  # fmt: skip
        need(kind in KINDS, f"{path}: {name} is {kind}; only {', '.join(KINDS)} are read", error=WeightsError)
        assert match
        numbers = np.frombuffer(tensor["data"], KINDS[kind]).reshape(tensor["shape"])
        found[match[1], match[2]] = kind, numbers
    return found


def _why(name: str) -> str:
    if "magnitude" in name:
        return REASONS["use_dora"]
    if "embed" in name:
        return REASONS["trainable_token_indices"]
    return REASONS["lora_bias"] if name.endswith(".bias") else REASONS["modules_to_save"]


def _part(halves: tuple[Any, Any], name: str, shape: tuple[int, ...], peft: Peft, where: str) -> LowRank:
    """Both halves of one projection, in the shapes that the model and the rank make them."""
    rows, inputs = shape
    wanted = (peft.rank(name), inputs), (rows, peft.rank(name))
    for letter, half, size in zip("AB", halves, wanted, strict=True):
        what = f"{where}: {name}.lora_{letter}"
        need(half is not None, f"{what} is missing, though {CONFIG} names it", error=WeightsError)
        need(half[1].shape == size, f"{what} is {half[1].shape}, this model and {CONFIG} make it {size}",
             "the model that the adapter was made for", WeightsError)  # fmt: skip
    (kind, down), (other, up) = halves
    if kind != other:
        kind, down, up = "F32", to_fp32(kind, down), to_fp32(other, up)
    return LowRank(kind, down, up, peft.scale(name))


def to_fp32(kind: str, numbers: np.ndarray) -> np.ndarray:
    """Numbers of one of KINDS as fp32, exactly."""
    if kind == "BF16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32)


def _projections(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape in shapes(config):
        if name.endswith("_proj.weight"):
            yield name.removesuffix(".weight"), shape


def _named(wanted: str | list[str], name: str) -> bool:
    """PEFT's rule: a text is a pattern for the whole name, a list holds its endings."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in wanted)


def _key(patterns: dict[str, Any], name: str) -> str:
    """The first pattern that stands at the end of the name."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), name)
