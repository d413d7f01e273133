"""The kinds of number a weights file may hold: plain floats, and blocks that share a scale.

A block kind keeps `values` neighbours of a row in `size` bytes. `number` is the type's number in a GGUF file.
"""

import difflib
import math
from dataclasses import dataclass

import numpy as np

from puna.errors import WeightsError, need


@dataclass(frozen=True)
class Format:
    """How many values share a block, and how many bytes the block takes."""

    number: int
    values: int
    size: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.size / self.values


FORMATS = {
    "F32": Format(0, 1, 4),
    "F16": Format(1, 1, 2),
    "BF16": Format(30, 1, 2),
    "Q4_0": Format(2, 32, 18),
    "Q4_1": Format(3, 32, 20),
    "Q5_0": Format(6, 32, 22),
    "Q5_1": Format(7, 32, 24),
    "Q8_0": Format(8, 32, 34),
    "Q2_K": Format(10, 256, 84),
    "Q3_K": Format(11, 256, 110),
    "Q4_K": Format(12, 256, 144),
    "Q5_K": Format(13, 256, 176),
    "Q6_K": Format(14, 256, 210),
    "IQ4_NL": Format(20, 32, 18),
    "IQ4_XS": Format(23, 256, 136),
}

ZERO = {"Q4_0": 8, "Q5_0": 16, "Q3_K": 4, "Q6_K": 32}  # the code that means level 0, where it is not code 0
CURVE = np.array(  # the levels of IQ4_NL and IQ4_XS: denser near zero, where most weights are
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)


def format_of(kind: str, where: str = "tensor") -> Format:
    """The format of that name; WeightsError names the nearest one."""
    near = difflib.get_close_matches(str(kind).upper(), FORMATS, n=1)
    need(
        kind in FORMATS,
        f"{where}: unknown kind of weights {kind!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        f"one of {', '.join(FORMATS)}",
        WeightsError,
    )
    return FORMATS[kind]


def stored_bytes(kind: str, shape: tuple[int, ...], where: str = "tensor") -> int:
    """Bytes that a tensor takes; WeightsError where its rows do not divide into blocks."""
    form = format_of(kind, where)
    need(all(size > 0 for size in shape), f"{where}: shape {tuple(shape)} holds nothing", error=WeightsError)
    columns = shape[-1] if shape else 1
    need(
        columns % form.values == 0,
        f"{where}: rows of {columns:,} values do not divide into {kind} blocks of {form.values}",
        f"a kind with smaller blocks ({_smaller(columns)})",
        WeightsError,
    )
    return math.prod(shape) // form.values * form.size


def _smaller(columns: int) -> str:
    fits = [kind for kind, form in FORMATS.items() if columns % form.values == 0]
    return ", ".join(fits)
