"""The kinds of number a weights file may hold: plain floats, and blocks that share a scale.

A block kind keeps `values` neighbours of a row in `size` bytes. `number` is the type's number in a GGUF file.
"""

import difflib
from dataclasses import dataclass

import numpy as np

from puna.errors import WeightsError
from puna.gguf import KINDS, NO_WEIGHTS


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
    name: Format(number, values, size)
    for number, (name, values, size) in KINDS.items()
    if name not in NO_WEIGHTS
}

ZERO = {"Q4_0": 8, "Q5_0": 16, "Q3_K": 4, "Q6_K": 32}  # the code that means level 0, where it is not code 0
CURVE = np.array(  # the levels of IQ4_NL and IQ4_XS: denser near zero, where most weights are
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)


def format_of(kind: str, where: str = "tensor") -> Format:
    """The format of that name; WeightsError names the nearest one."""
    if kind in FORMATS:
        return FORMATS[kind]
    near = difflib.get_close_matches(str(kind).upper(), FORMATS, n=1)
    raise WeightsError(
        f"{where}: unknown kind of weights {kind!r}"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + f"\n  try: one of {', '.join(FORMATS)}"
    )
