"""The native forward step of a Llama on a CPU: whether it can be had here, and what it can read.

Weights stay in the file's blocks, packed 16 rows side by side; one call reads any number of sequences and
gives logits. The slow definition of each kernel is in llama_reference.py, that of the whole step is the torch
model.
"""

from importlib import import_module
from typing import Any, Literal

from puna.kernels.extension import obstacle

PACKED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32")
Cache = Literal["bf16", "int8"]  # what keys and values are kept in
BLOCK = 32  # inputs that share a scale
WIDEST_CODED = 512  # numbers of a head in a cache of bytes: so many products fit a sum of 32 bits
TILE = 16  # rows side by side: widths are multiples of it
REVISION = 6  # of what the native module answers; the same number stands in cpu/llama/bind.cpp


def works_here() -> str | None:
    """Why there is no native forward step, or None."""
    return obstacle("_llama", REVISION)


def native() -> Any:
    """The module; ask works_here first."""
    return import_module("puna.kernels._llama")
