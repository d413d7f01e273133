"""The numbers that make one dense Llama: sizes, RoPE, tied or not. Read from any file, written as
config.json.

Nothing here imports torch, so plans, servers and `puna look` can read sizes in a blink.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from puna.errors import ConfigError, need
from puna.settings import Settings

COUNT = Field(gt=0, lt=2**24)  # above every published size; a hostile file cannot ask for more


class RopeScaling(Settings):
    """How far positions are squeezed [P 3.4.2; llama-models model.py]. `linear` divides every frequency by
    `factor`.

    `llama3` leaves wavelengths under original/high_freq_factor alone, divides those over
    original/low_freq_factor, and blends between.
    """

    rope_type: Literal["llama3", "linear"] = "llama3"
    factor: float = Field(gt=0)
    low_freq_factor: float = Field(1.0, gt=0)
    high_freq_factor: float = Field(4.0, gt=0)
    original_max_position_embeddings: int = Field(8192, gt=0)


class ModelConfig(Settings):
    """The shape of one dense model; field names are those of Hugging Face's config.json."""

    hidden_size: int = COUNT
    num_hidden_layers: int = Field(gt=0, le=4096)
    num_attention_heads: int = COUNT
    num_key_value_heads: int = COUNT
    head_dim: int = COUNT
    intermediate_size: int = COUNT  # written out: nobody should have to derive 14_336
    vocab_size: int = Field(128_256, gt=0, lt=2**24)
    max_position_embeddings: int = Field(8192, gt=0)
    rope_theta: float = Field(500_000.0, gt=0)  # [P 3.2] large, so that far positions stay distinguishable
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = Field(1e-5, gt=0)
    tie_word_embeddings: bool = False

    @model_validator(mode="before")
    @classmethod
    def _head_dim_from_width(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("head_dim") is None:
            width, heads = values.get("hidden_size"), values.get("num_attention_heads")
            if isinstance(width, int) and isinstance(heads, int) and heads > 0:
                need(
                    width % heads == 0,
                    f"hidden_size {width} is not a multiple of {heads} heads",
                    error=ConfigError,
                )
                return {**values, "head_dim": width // heads}
        return values

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> "ModelConfig":
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        need(
            heads % groups == 0,
            f"{heads} attention heads cannot share {groups} key-value heads evenly",
            error=ConfigError,
        )
        need(self.head_dim % 2 == 0, f"head_dim {self.head_dim} is odd: RoPE turns pairs", error=ConfigError)
        return self


def _llama(width: int, layers: int, heads: int, hidden: int, **rest: Any) -> ModelConfig:
    return ModelConfig.read(
        {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "intermediate_size": hidden,
            "max_position_embeddings": 131_072,
            **rest,
        },
        "herd",
    )


_LLAMA2 = {"vocab_size": 32_000, "rope_theta": 10_000.0, "max_position_embeddings": 4096}
_BY_8, _BY_32 = RopeScaling(factor=8.0), RopeScaling(factor=32.0)

HERD = {  # [llama-models sku_list.py; paper Table 3]; SmolLM2, TinyLlama: their config.json
    "3-8b": _llama(4096, 32, 32, 14_336, max_position_embeddings=8192),
    "3-70b": _llama(8192, 80, 64, 28_672, max_position_embeddings=8192),
    "3.1-8b": _llama(4096, 32, 32, 14_336, rope_scaling=_BY_8),
    "3.1-70b": _llama(8192, 80, 64, 28_672, rope_scaling=_BY_8),
    "3.1-405b": _llama(16_384, 126, 128, 53_248, rope_scaling=_BY_8),
    "3.2-1b": _llama(2048, 16, 32, 8192, rope_scaling=_BY_32, tie_word_embeddings=True),
    "3.2-3b": _llama(3072, 28, 24, 8192, rope_scaling=_BY_32, tie_word_embeddings=True),
    "3.3-70b": _llama(8192, 80, 64, 28_672, rope_scaling=_BY_8),
    "smollm2-135m": _llama(
        576,
        30,
        9,
        1536,
        num_key_value_heads=3,
        vocab_size=49_152,
        rope_theta=100_000.0,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "tinyllama-1.1b": _llama(
        2048, 22, 32, 5632, **{**_LLAMA2, "num_key_value_heads": 4, "max_position_embeddings": 2048}
    ),
    "llama2-7b": _llama(4096, 32, 32, 11_008, **{**_LLAMA2, "num_key_value_heads": 32}),
    "llama2-13b": _llama(5120, 40, 40, 13_824, **{**_LLAMA2, "num_key_value_heads": 40}),
    "llama2-70b": _llama(8192, 80, 64, 28_672, **_LLAMA2),
}


def parameters(config: ModelConfig) -> int:
    """How many numbers the model has; a tied embedding counts once."""
    c = config
    attention = 2 * c.hidden_size * c.head_dim * (c.num_attention_heads + c.num_key_value_heads)
    block = attention + 3 * c.hidden_size * c.intermediate_size + 2 * c.hidden_size
    embeddings = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)
    return c.num_hidden_layers * block + embeddings + c.hidden_size


def from_hf(values: dict[str, Any], where: str) -> ModelConfig:
    """ModelConfig from a Hugging Face config.json; ConfigError for what is not a Llama that differs in
    numbers only.
    """
    need(
        values.get("model_type", "llama") == "llama",
        f"{where}: model_type {values.get('model_type')!r} is another architecture",
        "a model whose config.json says model_type llama",
        ConfigError,
    )
    for key, only in {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}.items():
        need(
            values.get(key, only) == only,
            f"{where}: {key} {values.get(key)!r} is not supported, only {only!r}",
            error=ConfigError,
        )
    taken = {key: values[key] for key in ModelConfig.model_fields if key in values and key != "rope_scaling"}
    # before GQA, files left the groups out
    taken.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):  # transformers 4's name and 5's
        given = values.get(key) or {}
        need(isinstance(given, dict), f"{where}: {key} is {given!r}, not an object", error=ConfigError)
        rope |= given
    taken["rope_theta"] = rope.pop("rope_theta", values.get("rope_theta", 10_000.0))
    taken["rope_scaling"] = _rope_from_hf(rope, where)
    return ModelConfig.read(taken, where)


def _rope_from_hf(rope: Any, where: str) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    need(
        kind in ("llama3", "linear"),
        f"{where}: RoPE scaling {kind!r} is not supported, only llama3 and linear",
        error=ConfigError,
    )
    known = {key: rope[key] for key in RopeScaling.model_fields if key in rope}
    return {**known, "rope_type": kind}


def to_hf(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The config.json that transformers, vLLM, SGLang and llama.cpp's converter read. `dtype` as torch names
    it.
    """
    values = config.model_dump()
    rope = values.pop("rope_scaling")
    if rope and rope["rope_type"] == "linear":
        rope = {"rope_type": "linear", "type": "linear", "factor": rope["factor"]}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **values,
        "rope_scaling": rope,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": dtype,
        "use_cache": True,
    }


def read_json(path: Path, most_bytes: int = 2**28) -> Any:
    """A JSON file's value; ConfigError when it is missing, too large or no JSON."""
    need(path.is_file(), f"{path}: no such file", error=ConfigError)
    need(
        path.stat().st_size <= most_bytes,
        f"{path}: {path.stat().st_size:,} bytes is too large",
        error=ConfigError,
    )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:  # ValueError: bad JSON and bad UTF-8
        raise ConfigError(f"{path}: not valid JSON ({problem})") from None
