"""Arrays on disk with what they are: one safetensors file, its facts as JSON in the header.

Trained classifiers and sets of benchmark n-grams are such files. They are written all at once or not at
all, and read as if a stranger had sent them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from puna.errors import DataError, WeightsError, need

_KEY = "puna.arrays"  # one key, because the order of several is not fixed
_MOST_BYTES = 1 << 30


def write_arrays(path: str | Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Write the file; the answer is its SHA-256, the same for the same facts and arrays."""
    path = Path(path)
    data = save(dict(arrays), {_KEY: json.dumps(facts, sort_keys=True, ensure_ascii=False)})
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
    return hashlib.sha256(data).hexdigest()


def read_arrays(path: str | Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts, arrays) of a file whose facts say this kind and version; WeightsError otherwise."""
    path = Path(path)
    need(path.is_file(), f"{path}: there is no such file", error=WeightsError)
    size = path.stat().st_size
    need(size <= _MOST_BYTES, f"{path}: {size:,} bytes are more than a file of ours has", error=WeightsError)
    data = path.read_bytes()
    try:
        arrays, said = load(data), _header(data).get(_KEY)
        facts = json.loads(said) if isinstance(said, str) else None
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise WeightsError(f"{path}: not a safetensors file that can be read: {problem}") from None
    need(isinstance(facts, dict), f"{path}: its header does not say what it holds", error=WeightsError)
    assert isinstance(facts, dict)
    have = facts.get("kind"), facts.get("version")
    wrong = f"{path}: holds {have[0]!r} version {have[1]!r}, expected {kind!r} version {version}"
    need(have == (kind, version), wrong, error=WeightsError)
    return facts, arrays


def version_of(path: Path) -> tuple[str, int, int]:
    """What tells one version of a file from the next without reading it: a key for caches."""
    need(path.is_file(), f"{path}: there is no such file", error=DataError)
    facts = path.stat()
    return str(path), facts.st_size, facts.st_mtime_ns


def fingerprint_with(said: str, path: Path) -> str:
    """The fingerprint of settings together with that of the file they name."""
    need(path.is_file(), f"{path}: there is no such file", error=DataError)
    return hashlib.sha256(f"{said} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode()).hexdigest()


def take(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...], where: str | Path) -> np.ndarray:
    """The array of this name as float32, if it is there, finite, of a known type and of this shape."""
    found = arrays.get(name)
    if found is None:
        raise WeightsError(f"{where}: no array {name!r}")
    good = found.shape == shape and found.dtype in (np.int8, np.float16, np.float32)
    need(
        good,
        f"{where}: {name!r} is {found.dtype} {found.shape}, expected numbers {shape}",
        error=WeightsError,
    )
    values = found.astype(np.float32)
    need(np.isfinite(values).all(), f"{where}: {name!r} holds what is no number", error=WeightsError)
    return values


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return header if isinstance(header, dict) else {}
