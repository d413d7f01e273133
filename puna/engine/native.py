"""The runner for CPUs: weights as the file holds them, a whole step of all sequences in one native call.

Codes of the file are multiplied as they are, by inputs in whole numbers with a scale for each 32 (as
llama.cpp does); F32, F16 and BF16 weights by fp32. Keys and values are kept in bf16, or in bytes with a scale
for each position and head. A row's result does not depend on what else is read in its step, nor on how its
prompt was cut: to the last bit.
"""

from collections.abc import Iterator

import numpy as np

from puna import log
from puna.engine.step import Outcome, Step
from puna.errors import HardwareError, need
from puna.kernels import llama
from puna.model.config import ModelConfig
from puna.model.frequencies import frequencies
from puna.model.lora import Adapter
from puna.model.names import heads_turned, to_interleaved
from puna.model.weights import Weights, check
from puna.quant.blocks import decode, encode
from puna.quant.gguf import DENSE, GgufWeights

PAGE = 32
SLICE = 2**23  # bytes of a file that are packed at once
PARTS: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
PARTS += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")


def works_for(config: ModelConfig, cache: llama.Cache = "bf16") -> str | None:
    """Why a model of this shape has no native step here with such a cache, or None."""
    c = config
    widths = {"hidden_size": c.hidden_size, "intermediate_size": c.intermediate_size, "head_dim": c.head_dim}
    for name, width in widths.items():
        if width % llama.TILE:
            return f"{name} {width} is not a multiple of {llama.TILE}"
    if cache == "int8" and c.head_dim > llama.WIDEST_CODED:
        return f"head_dim {c.head_dim} is above {llama.WIDEST_CODED}, too wide for a cache in int8"
    return llama.works_here()


def bytes_per_page(config: ModelConfig, cache: llama.Cache) -> int:
    """Keys and values of PAGE positions, all layers; in int8 with a float for each position and head."""
    position = config.head_dim + 4 if cache == "int8" else 2 * config.head_dim
    return 2 * PAGE * config.num_hidden_layers * config.num_key_value_heads * position


class NativeRunner:
    """`pages` of PAGE positions are set aside; the machine gives memory for those that are used."""

    def __init__(
        self, weights: Weights, pages: int, threads: int, instructions: str = "", cache: llama.Cache = "bf16"
    ):
        reason = works_for(weights.config, cache)
        need(not reason, f"{weights.where}: {reason}", "--dtype f32", HardwareError)
        check(weights)
        c = weights.config
        self.config, self.page, self.pages, self.size = c, PAGE, pages, c.vocab_size
        names = list(_matrices(c))
        shapes = [_shape(weights, name) for name in names]
        sizes = [c.hidden_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads, c.head_dim]
        sizes += [c.intermediate_size, c.vocab_size]
        angles = frequencies(c).tolist()
        self.model = llama.native().Model(sizes, c.rms_norm_eps, shapes, angles, threads, instructions)
        for index, name in enumerate(names):
            for first, data in _stored(weights, name, shapes[index][0]) if name else ():
                self.model.put(index, first, data)
            log.event("load", done=index + 1, of=len(names), tensor=name)
        for index, name in enumerate(_norms(c)):
            self.model.put_norm(index, _numbers(weights, name))
        size = self.model.make_cache(pages, PAGE, cache == "int8")
        log.event("cache", kept_in=cache, positions=pages * PAGE, bytes=size)

    def run(self, step: Step) -> Outcome:
        """One native call."""
        logits = np.empty((len(step.wanted), self.size), np.float32)
        hidden = np.empty((len(step.hidden), self.config.hidden_size), np.float32)
        numbers = (np.array(some, np.int32) for some in (step.tokens, step.starts, step.held))
        asked = (np.array(some, np.int32) for some in (step.wanted, step.hidden, step.adapters))
        self.model.step(*numbers, step.pages, *asked, logits, hidden)
        return Outcome(logits, hidden)

    def copy(self, source: int, target: int) -> None:
        """Keys and values of one page to another."""
        self.model.copy_page(source, target)

    def put_adapter(self, number: int, adapter: Adapter) -> None:
        """Pack an adapter's halves, as the file's numbers, all of the rank of the largest."""
        ranks = [len(part.down) for part in adapter.parts.values()]
        rank = -(-max(ranks) // llama.TILE) * llama.TILE
        order = list(_matrices(self.config))
        halves = []
        for name, part in adapter.parts.items():
            heads = heads_turned(f"{name}.weight", self.config)
            up = to_interleaved(part.up, heads) if heads else part.up
            more = rank - len(part.down)
            padded = np.pad(part.down, ((0, more), (0, 0))), np.pad(up, ((0, 0), (0, more)))
            where = order.index(f"{name}.weight") - 2
            halves.append(
                (where, part.kind, *(half.reshape(-1).view(np.uint8) for half in padded), part.scale)
            )
        self.model.put_adapter(number, rank, halves)

    def drop_adapter(self, number: int) -> None:
        """Give its memory back."""
        self.model.drop_adapter(number)


def _matrices(config: ModelConfig) -> Iterator[str | None]:
    """Their names in the native order; None: the embedding is the head too."""
    yield "model.embed_tokens.weight"
    yield None if config.tie_word_embeddings else "lm_head.weight"
    for layer in range(config.num_hidden_layers):
        for part in PARTS:
            yield f"model.layers.{layer}.{part}.weight"


def _norms(config: ModelConfig) -> Iterator[str]:
    for layer in range(config.num_hidden_layers):
        for part in NORMS:
            yield f"model.layers.{layer}.{part}.weight"
    yield "model.norm.weight"


def _shape(weights: Weights, name: str | None) -> tuple[str, int, int]:
    """Kind, rows and inputs of a matrix: as stored, or Q8_0 where its codes have no packed form."""
    if name is None:
        return "F32", 0, weights.config.hidden_size
    kind, (rows, inputs) = weights.kind(name), weights.shape(name)
    return kind if kind in llama.PACKED else "Q8_0", rows, inputs


def _stored(weights: Weights, name: str, kind: str) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, bytes) of a matrix in pieces, rows of q and k in GGUF's order."""
    if isinstance(weights, GgufWeights) and weights.kind(name) == kind:
        data = weights.raw(name)
        row = data.size // weights.shape(name)[0]  # bytes
        size = max(1, SLICE // row // llama.TILE) * llama.TILE * row
        for begin in range(0, data.size, size):
            piece = data[begin : begin + size]
            yield begin // row, piece
            weights.file.forget(piece)
        return
    if isinstance(weights, GgufWeights):
        yield 0, encode(kind, _numbers(weights, name), where=f"{weights.where}: {name}")
        return
    import torch

    tensor, heads = weights.read(name), heads_turned(name, weights.config)
    if heads:
        tensor = to_interleaved(tensor, heads)
    assert tensor.dtype == getattr(torch, DENSE[kind])
    yield 0, tensor.flatten().view(torch.uint8).numpy()


def _numbers(weights: Weights, name: str) -> np.ndarray:
    """A tensor as fp32, rows in the file's order; of a GGUF without torch."""
    if isinstance(weights, GgufWeights):
        return decode(weights.kind(name), weights.raw(name), weights.shape(name))
    return weights.read(name).float().numpy()
