"""Lists that a recipe names: a word, a host or an address a line; `#` begins a comment; .gz is opened.

What a list says is part of what a stage is: its contents go into the fingerprint.
"""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

from puna.data.stage import Stage
from puna.errors import DataError, need

BLOCK = 1 << 20  # bytes; the work on a block takes some 50 times as much memory
Stamps = tuple[tuple[str, int, int], ...]


def stamps(paths: tuple[str, ...]) -> Stamps:
    """(path, size, time of change) of lists: under these what was made of them may be kept in memory."""
    for path in paths:
        need(Path(path).is_file(), f"{path}: no such list", "check the path in the recipe", DataError)
    return tuple((path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in paths)


def blocks(path: str) -> Iterator[bytes]:
    """The bytes of a list, cut at ends of lines, a few MB at a time."""
    need(Path(path).is_file(), f"{path}: no such list", "check the path in the recipe", DataError)
    rest = b""
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            while block := file.read(BLOCK):
                head, cut, rest = (rest + block).rpartition(b"\n")
                need(
                    len(rest) < BLOCK, f"{path}: a line of over {BLOCK:,} bytes is no entry", error=DataError
                )
                yield head + cut
    except (gzip.BadGzipFile, EOFError) as problem:
        raise DataError(f"{path}: broken gzip file ({problem})\n  try: write the list again") from None
    yield rest


def entries(given: tuple[str, ...], paths: Stamps) -> list[str]:
    """The entries of short lists, those given first."""
    found = list(given)
    for path, *_ in paths:
        for block in blocks(path):
            found += block.decode("utf-8", "replace").splitlines()
    return [entry for line in found if (entry := line.strip()) and not entry.startswith("#")]


def with_lists(stage: Stage, paths: tuple[str, ...]) -> str:
    """The fingerprint of a stage and of the lists it reads."""
    digest = hashlib.sha256(Stage.fingerprint(stage).encode())
    for path, *_ in stamps(paths):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
