"""A Llama out of a GGUF and into one, a tensor at a time.

GGUF orders the rows of q and k for RoPE on neighbouring channels; ours turns (i, i + Dh/2), so they are
reordered after dequantising.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from puna import log
from puna.errors import WeightsError, need
from puna.gguf import NO_WEIGHTS, open_gguf, size_in_bytes
from puna.gguf_writer import GgufWriter
from puna.model.config import ModelConfig, RopeScaling
from puna.model.frequencies import frequencies
from puna.model.gguf_keys import DIVISORS, config_from_gguf, keys_from_config
from puna.model.names import heads_turned, shapes, to_gguf, to_half_split, to_interleaved
from puna.model.weights import Weights, check
from puna.quant.blocks import decode, encode

if TYPE_CHECKING:
    import torch  # brought by who reads a tensor as one: the native step starts without it

DENSE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # torch's names
CHUNK = 2**22  # numbers that are encoded at once: 16 MiB of fp32
FILE_TYPES = {  # general.file_type by the kind of most bytes; llama.cpp only shows it
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K": 12,
    "Q4_K": 15,
    "Q5_K": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
}


class GgufWeights:
    """The tensors of a GGUF by Hugging Face name, all checked on opening and each read when asked for."""

    def __init__(self, path: Path):
        self.where, self.file = str(path), open_gguf(path)
        parts = self.file.keys.get("split.count", 1)
        need(
            isinstance(parts, int) and parts <= 1,
            f"{path}: one of {str(parts)[:40]} parts of a model",
            "join them with llama-gguf-split --merge",
            WeightsError,
        )
        self.config = config_from_gguf(self.file)
        self._names = {name: to_gguf(name) for name, _ in shapes(self.config)}
        held = self.file.tensors.keys() - {DIVISORS}
        unknown = sorted(held - set(self._names.values()))
        need(
            not unknown,
            f"{path}: Puna's Llama has no place for {', '.join(unknown[:3])}"
            + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""),
            error=WeightsError,
        )
        self._check_tensors()

    def names(self) -> Iterable[str]:
        return (name for name, theirs in self._names.items() if theirs in self.file.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.tensors[self._names[name]].shape

    def kind(self, name: str) -> str:
        return self.file.tensors[self._names[name]].kind

    def read(self, name: str) -> "torch.Tensor":
        import torch

        kind, shape, data = self.kind(name), self.shape(name), self.raw(name)
        if kind in DENSE:
            tensor = torch.from_numpy(data.copy()).view(getattr(torch, DENSE[kind])).view(shape)
        else:
            tensor = torch.from_numpy(decode(kind, data, shape, where=f"{self.where}: {name}"))
        heads = heads_turned(name, self.config)
        return to_half_split(tensor, heads) if heads else tensor

    def rows(self, name: str, first: int, last: int) -> "torch.Tensor":
        return self.read(name)[first:last]

    def raw(self, name: str) -> np.ndarray:
        """The tensor's bytes as they stand in the file, q and k in GGUF's row order."""
        return self.file.data(self._names[name])

    def _check_tensors(self) -> None:
        check(self)
        for name in self.names():
            need(
                self.kind(name) not in NO_WEIGHTS,
                f"{self.where}: {name} is {self.kind(name)}, which is no type of weights",
                error=WeightsError,
            )
        if self.config.rope_scaling and DIVISORS in self.file.tensors:
            stored = self.file.data(DIVISORS).view(np.float32)
            need(
                np.allclose(divisors(self.config), stored, rtol=1e-4),
                f"{self.where}: {DIVISORS} is not Llama 3.1's scaling by {self.config.rope_scaling.factor}",
                "convert the original model again",
                WeightsError,
            )


def divisors(config: ModelConfig) -> np.ndarray:
    """By what the config's scaling divides each frequency, (Dh/2,): the content of rope_freqs.weight."""
    return frequencies(config.model_copy(update={"rope_scaling": None})) / frequencies(config)


def write_gguf(
    weights: Weights,
    path: Path,
    kinds: Callable[[str, tuple[int, ...]], str],
    tokenizer_keys: dict[str, Any],
    name: str,
) -> None:
    """Write a GGUF that llama.cpp loads, holding one tensor at a time; tells `write` events.

    `kinds(name, shape)` chooses the type of each matrix by its Hugging Face name; norms stay F32. What a
    source GGUF already stores in the wanted type is copied bit for bit. `tokenizer_keys` go in as they are
    and win over ours.
    """
    check(weights)
    config = weights.config
    plan = [(n, shape, kinds(n, shape) if len(shape) > 1 else "F32") for n, shape in shapes(config)]
    extra = _rope_divisors(config)
    keys = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": name,
        "general.file_type": _file_type(plan),
        "general.quantization_version": 2,
        **keys_from_config(config),
        **tokenizer_keys,
    }
    entries = [(n, tuple(tensor.shape), "F32") for n, tensor in extra.items()]
    entries += [(to_gguf(n), shape, kind) for n, shape, kind in plan]
    with GgufWriter(path, keys, entries) as file:
        for n, tensor in extra.items():
            file.write(n, tensor)
        for done, (n, _, kind) in enumerate(plan, 1):
            for chunk in _stored(weights, n, kind):
                file.write(to_gguf(n), chunk)
            log.event("write", done=done, of=len(plan), tensor=n)


def _rope_divisors(config: ModelConfig) -> dict[str, np.ndarray]:
    """rope_freqs.weight where the scaling is llama3, and can be told back from it."""
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type == "linear":
        return {}
    usual = RopeScaling(factor=scaling.factor)
    need(
        (scaling.low_freq_factor, scaling.high_freq_factor)
        == (usual.low_freq_factor, usual.high_freq_factor),
        f"GGUF cannot say a RoPE scaling from {scaling.low_freq_factor} to {scaling.high_freq_factor} turns, "
        f"only from {usual.low_freq_factor} to {usual.high_freq_factor}",
        "--to hf",
        WeightsError,
    )
    return {DIVISORS: divisors(config)}


def _file_type(plan: list[tuple[str, tuple[int, ...], str]]) -> int:
    sizes: Counter[str] = Counter()
    for name, shape, kind in plan:
        sizes[kind] += size_in_bytes(kind, shape, name)
    return FILE_TYPES[sizes.most_common(1)[0][0]]


def _stored(weights: Weights, name: str, kind: str) -> Iterator[np.ndarray]:
    """The bytes of a tensor in this type, in pieces."""
    if isinstance(weights, GgufWeights) and weights.kind(name) == kind:
        yield weights.raw(name)
        return
    tensor, heads = weights.read(name), heads_turned(name, weights.config)
    if heads:
        tensor = to_interleaved(tensor, heads)
    rows = tensor.reshape(-1, tensor.shape[-1])
    for chunk in rows.split(max(1, CHUNK // rows.shape[-1])):
        yield encode(kind, chunk.float().numpy(), where=f"{weights.where}: {name}")
