"""Pieces of a buffer as 64-bit hashes, without a Python string for any of them: for hosts and addresses.

The hash of a range of bytes is a polynomial modulo 2**64, mixed: from running sums over the buffer, that of
any range costs one subtraction. Words are hashed by puna.kernels.words.
"""

import numpy as np
import pyarrow as pa

BASE = 0x9E3779B97F4A7C15  # odd, so that dividing by it is exact


def mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of x depends on every other (the finalizer of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def range_hashes(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The hash of each data[start:end]; takes 24 bytes of memory for each byte between first and last."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    low = starts.min()
    data, starts, ends = data[low : ends.max()], starts - low, ends - low
    powers = np.full(len(data) + 1, BASE, np.uint64)
    powers[0] = 1
    np.multiply.accumulate(powers, out=powers)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data + np.uint64(1)) * powers[:-1], out=sums[1:])
    home = np.uint64(pow(BASE, -len(data), 1 << 64))  # a range hashes alike wherever it stands
    return mixed(
        (sums[ends] - sums[starts]) * powers[len(data) - starts] * home + (ends - starts).astype(np.uint64)
    )


def is_in(hashes: np.ndarray, *known: np.ndarray) -> np.ndarray:
    """Which hashes are in one of the sorted lists, of which few places are read: they may lie in files."""
    asked, which = np.unique(hashes, return_inverse=True)  # in order: the search stays in the cache
    found = np.zeros(len(asked), bool)
    for some in known:
        if len(some):
            found |= some[np.minimum(np.searchsorted(some, asked), len(some) - 1)] == asked
    return found[which]


def buffers(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets) of a column of strings; a null is empty."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    whole = pa.concat_arrays([pa.array([], pa.large_string()), *(c.cast(pa.large_string()) for c in chunks)])
    _, places, data = whole.fill_null("").buffers()
    offsets = np.frombuffer(places, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets
