"""What a model's shape says exactly: parameters, floating-point operations a token, bytes of weights and of
remembered keys and values.

Operations are told by two counts, because published figures use both. `causal` counts the half of attention
that a causal mask leaves; `full` counts all of it. At 8K tokens the 8B differs by 11%, so whoever tells a
share of a peak says which.
"""

from puna.errors import PunaError, need
from puna.model.config import HERD, ModelConfig, parameters
from puna.quant.mixes import MIXES, bits_per_weight

# what matrices are computed in, in training and on GPUs
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


def herd(name: str) -> ModelConfig:
    """A published size by its name: 8b, 3.1-405b; PunaError names those there are."""
    known = {**{key.partition("-")[2]: shape for key, shape in HERD.items() if key[0] == "3"}, **HERD}
    need(name.lower() in known, f"no published model {name!r}", f"one of {', '.join(sorted(known))}")
    return known[name.lower()]


def block(config: ModelConfig) -> int:
    """Parameters of the matrices of one layer; its norms are two rows more."""
    c = config
    attention = 2 * c.hidden_size * c.head_dim * (c.num_attention_heads + c.num_key_value_heads)
    return attention + 3 * c.hidden_size * c.intermediate_size


def multiplied(config: ModelConfig) -> int:
    """Parameters that each token is multiplied with: all matrices and the head, not the look-up."""
    return config.num_hidden_layers * block(config) + config.vocab_size * config.hidden_size


def forward_flops(config: ModelConfig, sequence: int, count: str = "causal") -> float:
    """Operations to read one token, the mean over a sequence of this length."""
    need(count in ("causal", "full"), f"no count of operations {count!r}", "causal or full")
    seen = sequence / 2 if count == "causal" else sequence
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen
    return 2 * multiplied(config) + attention


def training_flops(config: ModelConfig, sequence: int, count: str = "causal") -> float:
    """Operations to learn from one token: forward once, backward twice, nothing computed again."""
    return 3 * forward_flops(config, sequence, count)


def decoding_flops(config: ModelConfig, context: int) -> float:
    """Operations to write one token after `context` others."""
    return forward_flops(config, context, "full")


def weight_bytes(config: ModelConfig, kind: str) -> int:
    """Of all weights: kind fp32, bf16, fp16, fp8 (the layers' matrices; the rest bf16), or a GGUF mix."""
    kind = kind.lower()
    if kind == "fp8":
        return 2 * parameters(config) - config.num_hidden_layers * block(config)
    if kind in BYTES:
        return parameters(config) * BYTES[kind]
    if kind not in MIXES:
        kinds = ", ".join([*BYTES, *MIXES])
        raise PunaError(f"no kind of weights {kind!r}\n  try: one of {kinds}")
    return round(parameters(config) * bits_per_weight(kind, config) / 8)


def kv_bytes(config: ModelConfig, each: int = 2) -> int:
    """Of the keys and values that one token leaves behind, `each` bytes a number."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * each


def flops_budget(config: ModelConfig, tokens: float) -> float:
    """What scaling laws call compute: 6 operations a parameter and token."""
    return 6 * parameters(config) * tokens
