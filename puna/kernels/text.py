"""The hot loops of text curation over a column of texts, and which twin of them answers here.

Every function takes the pair of puna.data.document.text_buffers: `data` (bytes,) uint8 and `offsets`
(rows + 1,) int64, row i being data[offsets[i] : offsets[i + 1]] in UTF-8. `choose` says which twin answers:
the native one, or the definitions in text_reference.py, which give the same and take a hundred times as long.
They are called from words.py, lines.py, counters.py and alike.py.
"""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from puna import log
from puna.errors import DataError, need
from puna.kernels.extension import obstacle

REVISION = 3  # of what the native twins answer; the same number stands in cpu/module.cpp


@cache
def choose() -> tuple[Any, str]:
    """The module whose twins answer here, and why it is that one."""
    reason = obstacle("_native", REVISION)
    name = "text_reference" if reason else "_native"
    log.event("kernels", chosen=name, reason=reason)
    return import_module(f"puna.kernels.{name}"), reason or "native"


def checked(data: np.ndarray, offsets: np.ndarray, kind: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """The pair as the twins want it; offsets that leave the data are an error."""
    data, offsets = np.ascontiguousarray(data, kind), np.ascontiguousarray(offsets, np.int64)
    inside = len(offsets) > 0 and offsets[0] >= 0 and offsets[-1] <= len(data)
    need(inside and (np.diff(offsets) >= 0).all(), "the offsets of a column leave its bytes", error=DataError)
    return data, offsets
