"""What a machine can serve: bytes of weights and of remembered tokens, and the most tokens a second that its
memory and its matrix units allow (a roofline: no program is faster, good ones reach 60 to 85%).
"""

from dataclasses import dataclass

from puna.model.config import ModelConfig, parameters
from puna.plan.counts import decoding_flops, forward_flops, kv_bytes, weight_bytes
from puna.plan.machines import Gpu, room
from puna.quant.mixes import MIXES

KINDS = ("bf16", "fp8", *(name for name in reversed(MIXES) if name not in ("f32", "f16", "bf16")))


@dataclass(frozen=True)
class Serving:
    """One kind of weights on one machine, `batch` texts of `context` tokens at once."""

    kind: str
    weights: int  # bytes
    remembered: int  # bytes of keys and values
    fits: bool
    longest: int  # tokens that the room left holds, over all texts
    writes: float  # tokens a second, over all texts, at most
    reads: float  # of a prompt of `context` tokens, at most


def serving(config: ModelConfig, kind: str, machine: Gpu, batch: int, context: int, gpus: int = 1) -> Serving:
    """On `gpus` processors that share the work without loss."""
    weights, each = weight_bytes(config, kind), kv_bytes(config)
    held, space = each * batch * context, room(machine) * gpus
    flops = machine.peak("fp8" if kind == "fp8" else "bf16") * gpus
    looked_up = (
        0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size / parameters(config)
    )
    moved = weights * (1 - looked_up) + held  # of the embedding a row is read, of all else everything
    step = max(moved / (machine.bandwidth * gpus), batch * decoding_flops(config, context) / flops)
    return Serving(
        kind, weights, held, weights + held <= space, max(0, int((space - weights) // each)), batch / step,
        flops / forward_flops(config, context),
    )  # fmt: skip
