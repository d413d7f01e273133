"""A long list as the file of its sorted hashes, made once and then mapped into every worker's memory.

The file lies beside its list and is named by what the list says, so a list that changes gets another one;
where that folder cannot be written to, each worker makes the hashes for itself. Workers that make it at the
same time make the same bytes, and each puts them in place in one step. Deleting it costs the time to make it.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np

from puna.data.filters.lists import blocks

VERSION = 1  # of the hashes: raise it when they change
LONG = 1 << 20  # bytes of a list; a shorter one is read in a moment


def compiled(path: str, hashes_of: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """The sorted hashes of the list's entries; `hashes_of` makes those of some whole lines."""
    if Path(path).stat().st_size < LONG:
        return _made(path, hashes_of)
    with open(path, "rb") as file:
        said = hashlib.file_digest(file, "sha256").hexdigest()
    kept = Path(f"{path}.{said[:16]}.v{VERSION}.npy")
    mapped = _mapped(kept)
    if mapped is None:
        hashes = _made(path, hashes_of)
        _write(kept, hashes)
        mapped = _mapped(kept)
    return hashes if mapped is None else mapped


def _made(path: str, hashes_of: Callable[[bytes], np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *map(hashes_of, blocks(path))]))


def _mapped(kept: Path) -> np.ndarray | None:
    """The hashes in the file; None if there is none that can be read whole."""
    try:
        hashes = np.load(kept, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return hashes if hashes.dtype == np.uint64 and hashes.ndim == 1 else None


def _write(kept: Path, hashes: np.ndarray) -> None:
    """Put them there in one step, unless the folder is somebody else's or the disk is full."""
    part = kept.with_name(f"{kept.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    with contextlib.suppress(OSError):
        try:
            with part.open("wb") as file:
                np.save(file, hashes)
            os.replace(part, kept)
        finally:
            part.unlink(missing_ok=True)
