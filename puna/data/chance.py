"""Chance that nobody has to remember: a number decided by a seed, a purpose and a document's id.

The same document draws the same number on every machine, in every order, alone or among others.
"""

import hashlib

import numpy as np
import pyarrow as pa

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / the golden ratio, SplitMix64's


def draws(ids: np.ndarray, seed: int, purpose: str, copies: np.ndarray | int = 0) -> np.ndarray:
    """(N,) uint64, evenly spread, for ids (N, 16) uint8; another purpose or copy draws another number."""
    halves = np.ascontiguousarray(ids).view("<u8").reshape(-1, 2)
    return _mix(
        _mix(mixed(halves[:, 0], seed, purpose) ^ halves[:, 1]) + np.asarray(copies, np.uint64) * _STEP
    )


def mixed(numbers: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """(N,) uint64, evenly spread, for numbers (N,) uint64: others with another seed or purpose."""
    start = hashlib.blake2b(f"{seed}\0{purpose}".encode(), digest_size=8).digest()
    return _mix(numbers ^ np.frombuffer(start, "<u8"))


def shares(ids: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """(N,) float64, evenly spread over [0, 1)."""
    return (draws(ids, seed, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def id_bytes(table: pa.Table) -> np.ndarray:
    """The column `id` of a table of documents, (N, 16) uint8."""
    array = table["id"].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks or [pa.array([], pa.binary(16))])
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    return data[16 * array.offset : 16 * (array.offset + len(array))].reshape(-1, 16)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's last three steps: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
