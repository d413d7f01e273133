"""How alike two texts are: estimated from signatures, and counted in full from sets of hashes."""

import numpy as np

from puna.errors import DataError, need
from puna.kernels.text import checked, choose


def minhash(
    data: np.ndarray, offsets: np.ndarray, count: int = 112, n: int = 5, seed: int = 1, fewest: int = 1
) -> np.ndarray:
    """Signatures (rows, count) uint32: the share two have in common estimates how alike their shingles are.

    Shingles are n words side by side, or all words of a shorter document; with fewer than `fewest` words it
    is all ones.
    """
    need(count >= 1 and n >= 1, f"{count} permutations of {n}-word shingles cannot be", error=DataError)
    return choose()[0].minhash(*checked(data, offsets), *permutations(count, seed), n, fewest)


def permutations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd multipliers and summands (count,) uint32 that make `count` permutations of 32-bit numbers."""
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    h = np.array([(seed + (i + 1) * golden) & mask for i in range(2 * count)], np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor)
    h = (h ^ (h >> np.uint64(31))) >> np.uint64(32)
    return h[::2].astype(np.uint32) | np.uint32(1), h[1::2].astype(np.uint32)


def sets(hashes: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets): of each row hashes[offsets[i] : offsets[i + 1]] every hash once, rising."""
    return choose()[0].sets(*checked(hashes, offsets, np.uint64))


def shared(hashes: np.ndarray, offsets: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(pairs,) int64: how many hashes rows left[i] and right[i] of `sets` have in common."""
    left, right = np.ascontiguousarray(left, np.int64), np.ascontiguousarray(right, np.int64)
    rows = np.concatenate((left, right))
    inside = len(left) == len(right) and (rows >= 0).all() and (rows < len(offsets) - 1).all()
    need(inside, "pairs name rows that are not there", error=DataError)
    return choose()[0].shared(*checked(hashes, offsets, np.uint64), left, right)
