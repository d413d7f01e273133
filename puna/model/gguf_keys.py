"""What the keys of a GGUF say about a Llama's shape, both ways. Nothing here imports torch.

GGUF has no key for the RoPE scaling of Llama 3.1 and later: the file carries its effect, `rope_freqs.weight`,
by which the frequencies are divided. The factor is told back from the last of these divisors.
"""

import math
from typing import Any

import numpy as np

from puna.errors import WeightsError, need
from puna.gguf import Gguf
from puna.model.config import ModelConfig, RopeScaling

DIVISORS = "rope_freqs.weight"
# Keys that make another model of it, and the one value that does not.
_ONLY = {"expert_count": 0, "attention.causal": True, "rope.scaling.attn_factor": 1.0}
_ORIGINAL = RopeScaling.model_fields["original_max_position_embeddings"].default


def config_from_gguf(file: Gguf) -> ModelConfig:
    """The model's shape; WeightsError for an architecture or a variant that Puna's Llama is not."""
    keys, where = file.keys, str(file.path)
    kind = keys.get("general.architecture")
    need(
        isinstance(kind, str) and kind == "llama",
        f"{where}: the architecture {str(kind)[:40]!r} is not supported, only 'llama'",
        "a GGUF of a Llama, or of a model of its architecture such as SmolLM2",
        WeightsError,
    )
    for key, only in _ONLY.items():
        found = keys.get(f"llama.{key}", only)
        told = f"{where}: llama.{key} is {str(found)[:60]}, not {only}"
        need(np.array_equal(found, only), told, error=WeightsError)
    heads = _number(file, "attention.head_count")
    values = {
        "hidden_size": _number(file, "embedding_length"),
        "num_hidden_layers": _number(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _number(file, "attention.head_count_kv", heads),
        "head_dim": _number(file, "attention.key_length", 0) or None,
        "intermediate_size": _number(file, "feed_forward_length"),
        "vocab_size": _vocabulary(file),
        "max_position_embeddings": _number(file, "context_length"),
        "rope_theta": _number(file, "rope.freq_base", 10_000.0),
        "rms_norm_eps": _number(file, "attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }
    config = ModelConfig.read(values, where)
    for key in ("rope.dimension_count", "attention.value_length"):
        width = _number(file, key, config.head_dim)
        need(
            width == config.head_dim,
            f"{where}: llama.{key} is {width}, its heads are {config.head_dim} wide",
            error=WeightsError,
        )
    scaling = _scaling(file, config)
    return config.model_copy(update={"rope_scaling": scaling})


def keys_from_config(config: ModelConfig) -> dict[str, Any]:
    """The keys that say this shape; llama3 scaling goes into `rope_freqs.weight` instead."""
    keys = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope_theta,
    }
    scaling = config.rope_scaling
    if scaling and scaling.rope_type == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}
    elif scaling and scaling.original_max_position_embeddings != _ORIGINAL:
        keys["rope.scaling.original_context_length"] = scaling.original_max_position_embeddings
    return {f"llama.{key}": value for key, value in keys.items()}


def _number(file: Gguf, key: str, default: float | None = None) -> Any:
    value = file.keys.get(f"llama.{key}", default)
    need(value is not None, f"{file.path}: the key llama.{key} is missing", error=WeightsError)
    plain = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**32
    need(plain, f"{file.path}: llama.{key} is {str(value)[:60]}, not one sensible number", error=WeightsError)
    if isinstance(value, float):  # stored in 32 bits: 1e-05, not 9.999999747378752e-06
        return float(str(np.float32(value)))
    return value


def _vocabulary(file: Gguf) -> int:
    """Its key is young; the embedding has one row a token."""
    embedding = file.tensors.get("token_embd.weight")
    need(embedding, f"{file.path}: token_embd.weight is missing", error=WeightsError)
    assert embedding is not None
    return _number(file, "vocab_size", embedding.shape[0])


def _scaling(file: Gguf, config: ModelConfig) -> RopeScaling | None:
    kind = file.keys.get("llama.rope.scaling.type", "linear")
    factor = _number(file, "rope.scaling.factor", _number(file, "rope.scale_linear", 1.0))
    need(
        isinstance(kind, str) and kind in ("none", "linear"),
        f"{file.path}: RoPE scaling {str(kind)[:40]!r} is not supported, only linear and Llama 3.1's",
        error=WeightsError,
    )
    linear = kind == "linear" and factor not in (0, 1)
    if DIVISORS not in file.tensors:
        values = {"rope_type": "linear", "factor": factor}
        return RopeScaling.read(values, f"{file.path}: llama.rope.scaling") if linear else None
    need(not linear, f"{file.path}: has both {DIVISORS} and linear RoPE scaling", error=WeightsError)
    return _from_divisors(file, config)


def _from_divisors(file: Gguf, config: ModelConfig) -> RopeScaling | None:
    """The scaling whose factor explains the last divisor, of the pair that turns slowest."""
    entry, pairs = file.tensors[DIVISORS], config.head_dim // 2
    need(
        entry.kind == "F32" and entry.shape == (pairs,),
        f"{file.path}: {DIVISORS} is {entry.kind} {entry.shape}, not F32 ({pairs},)",
        error=WeightsError,
    )
    divisors = file.data(DIVISORS).view("<f4")
    if (divisors == 1).all():
        return None
    original = _number(file, "rope.scaling.original_context_length", _ORIGINAL)
    plain = RopeScaling(factor=1)
    slowest = config.rope_theta ** (2 / config.head_dim - 1)  # radians per position
    turns = original * slowest / (2 * math.pi)
    low, high = plain.low_freq_factor, plain.high_freq_factor
    kept = min(max((turns - low) / (high - low), 0.0), 1.0)
    last = float(divisors[-1])
    need(
        math.isfinite(last) and last > 0 and 1 / last > kept,
        f"{file.path}: {DIVISORS} ends with {last}: not Llama 3.1's scaling",
        error=WeightsError,
    )
    factor = float(f"{(1 - kept) / (1 / last - kept):.6g}")
    values = {"factor": factor, "original_max_position_embeddings": original}
    return RopeScaling.read(values, f"{file.path}: {DIVISORS}")
