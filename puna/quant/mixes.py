"""Mixes: which kind each tensor of a quantised model gets. `q4_k_m` is mostly Q4_K, more where it matters.

The names and rules are those that users of GGUF files know, so that our files are as large, and as good, as
they expect: norms stay F32; the output head keeps 6 bits or more; the value and down projections of about
half the layers do in `_m`.
"""

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from puna.errors import PunaError
from puna.model.config import ModelConfig
from puna.model.names import shapes
from puna.quant.formats import FORMATS


@dataclass(frozen=True)
class Mix:
    """GGUF's general.file_type, the kind of matrices, and that of the output head (or the tied embedding)."""

    file_type: int
    base: str
    head: str


MIXES = {
    "f32": Mix(0, "F32", "F32"),
    "f16": Mix(1, "F16", "F16"),
    "bf16": Mix(32, "BF16", "BF16"),
    "q8_0": Mix(7, "Q8_0", "Q8_0"),
    "q4_0": Mix(2, "Q4_0", "Q6_K"),
    "q4_1": Mix(3, "Q4_1", "Q6_K"),
    "q5_0": Mix(8, "Q5_0", "Q6_K"),
    "q5_1": Mix(9, "Q5_1", "Q6_K"),
    "q4_k_s": Mix(14, "Q4_K", "Q6_K"),
    "q4_k_m": Mix(15, "Q4_K", "Q6_K"),
    "q5_k_s": Mix(16, "Q5_K", "Q6_K"),
    "q5_k_m": Mix(17, "Q5_K", "Q6_K"),
    "q6_k": Mix(18, "Q6_K", "Q6_K"),
}
NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # where rows do not divide by 256: the next kind up
LAYER = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.weight")


def mix_of(name: str) -> Mix:
    """The mix of that name, in any case; PunaError names the nearest one."""
    if name.lower() in MIXES:
        return MIXES[name.lower()]
    near = difflib.get_close_matches(name.lower(), MIXES, n=1)
    raise PunaError(
        f"unknown mix {name!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + f"\n  try: one of {', '.join(MIXES)}"
    )


def kinds_for(mix: str, config: ModelConfig) -> Callable[[str, tuple[int, ...]], str]:
    """kind(Hugging Face tensor name, shape) for every tensor of a model."""
    mixed = mix_of(mix)
    head = (
        ("lm_head.weight", "model.embed_tokens.weight") if config.tie_word_embeddings else ("lm_head.weight",)
    )

    def kind(name: str, shape: tuple[int, ...]) -> str:
        if len(shape) < 2:
            return "F32"
        layer = LAYER.fullmatch(name)
        wanted = mixed.head if name in head else mixed.base
        if layer:
            wanted = _in_layer(mix.lower(), wanted, int(layer[1]), layer[2], config)
        return _that_fits(wanted, shape[-1])

    return kind


def bits_per_weight(mix: str, config: ModelConfig) -> float:
    """Bits of file for each number of the model, all tensors together."""
    kind = kinds_for(mix, config)
    sizes = [(math.prod(shape), FORMATS[kind(name, shape)].bits_per_weight) for name, shape in shapes(config)]
    return sum(count * bits for count, bits in sizes) / sum(count for count, _ in sizes)


def _in_layer(mix: str, base: str, layer: int, part: str, config: ModelConfig) -> str:
    """What a projection of this layer gets."""
    layers = config.num_hidden_layers
    if part not in ("v_proj", "down_proj"):
        return base
    if mix in ("q4_k_m", "q5_k_m") and _is_careful(layer, layers):
        return "Q6_K"
    if mix == "q4_k_s" and layer < (4 if part == "v_proj" else layers // 8):
        return "Q5_K"
    shared_by_8 = layers == 80 and config.num_attention_heads == 8 * config.num_key_value_heads  # the 70B
    return "Q5_K" if part == "v_proj" and shared_by_8 and base == "Q4_K" else base


def _is_careful(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _that_fits(kind: str, columns: int) -> str:
    """The kind itself, or the nearest wider one whose blocks divide a row; F16 fits all rows."""
    for some in (kind, NARROW.get(kind, kind)):
        if columns % FORMATS[some].values == 0:
            return some
    return "F16"
