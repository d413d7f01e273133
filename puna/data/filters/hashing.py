"""Pieces of a buffer as 64-bit hashes, without a Python string for any of them.

The hash of a range of bytes is a polynomial modulo 2**64, mixed: from running sums over the buffer, that of
any range costs one subtraction.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa

BASE = 0x9E3779B97F4A7C15
SPAN = 1 << 16  # bytes at a time: sums that stay in the cache
INVERSE = pow(BASE, -1, 1 << 64)  # the base is odd, so dividing by it is exact


def mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of x depends on every other (the finalizer of splitmix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(4)
def values(fold_case: bool = True, fold_digits: bool = False) -> np.ndarray:
    """(256,) what each byte counts in a hash; A like a, and every digit like 0, where asked."""
    byte = np.arange(256)
    if fold_case:
        byte[65:91] += 32
    if fold_digits:
        byte[48:58] = 48
    return mixed((byte.astype(np.uint64) + np.uint64(1)) * np.uint64(BASE))


@lru_cache(2)
def _powers(base: int) -> tuple[np.ndarray, np.ndarray]:
    """base**i for i < 2**16, and base**(i * 2**16)."""
    low = np.cumprod(np.r_[np.uint64(1), np.full(65535, base, np.uint64)], dtype=np.uint64)
    step = np.uint64(pow(base, 1 << 16, 1 << 64))
    return low, np.cumprod(np.r_[np.uint64(1), np.full(65535, step, np.uint64)], dtype=np.uint64)


def _power(base: int, at: np.ndarray) -> np.ndarray:
    low, high = _powers(base)
    return low[at & 0xFFFF] * high[at >> 16]


def _running(data: np.ndarray, places: tuple[np.ndarray, ...], value: np.ndarray) -> list[np.ndarray]:
    """The sums of value[data[i]] * BASE**i over i < place, for each of some sorted lists of places."""
    sums, carry = [np.zeros(len(some), np.uint64) for some in places], np.uint64(0)
    low, high = _powers(BASE)
    for number, start in enumerate(range(0, len(data), SPAN)):
        terms = value[data[start : start + SPAN]]
        terms *= low[: len(terms)]
        total = np.cumsum(terms, out=terms)
        total *= high[number]
        total += carry
        for some, answer in zip(places, sums, strict=True):
            first, last = np.searchsorted(some, (start + 1, start + len(total) + 1))
            answer[first:last] = total[some[first:last] - start - 1]
        carry = total[-1]
    return sums


def range_hashes(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The hash of each data[start:end]; starts and ends ascend, each by itself; data is below 4 GiB."""
    assert len(data) < 1 << 32
    until_start, until_end = _running(data, (starts, ends), value)
    return mixed((until_end - until_start) * _power(INVERSE, starts) + (ends - starts).astype(np.uint64))


def is_in(hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which hashes are among the sorted known ones."""
    found, first = np.zeros(len(hashes), bool), np.zeros(1 << 16, bool)
    if not len(known):
        return found
    first[known >> np.uint64(48)] = True  # most hashes are not even like a known one
    some = np.flatnonzero(first[hashes >> np.uint64(48)])
    asked, which = np.unique(hashes[some], return_inverse=True)  # in order: the search stays in the cache
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found[some] = (known[at] == asked)[which]
    return found


def buffers(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets) of a column of strings; a null is empty."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    whole = pa.concat_arrays([pa.array([], pa.large_string()), *(c.cast(pa.large_string()) for c in chunks)])
    _, places, data = whole.fill_null("").buffers()
    offsets = np.frombuffer(places, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets
