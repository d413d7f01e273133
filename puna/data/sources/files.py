"""Files as sources find and open them: in one order, none outside their folder, unpacked as they are read."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from puna.errors import DataError, need

BROKEN = (OSError, EOFError, zlib.error, zstandard.ZstdError)  # what a damaged file raises while it is read
WINDOW = 1 << 27  # bytes; zstd's own limit. A frame may ask for 2 GiB
CHUNK = 1 << 20


def find(paths: tuple[str, ...], endings: tuple[str, ...]) -> list[Path]:
    """Files among paths, and those in folders among them whose name ends so ("" takes all), in one order."""
    found = []
    for root in map(Path, paths):
        need(root.exists(), f"{root}: no such file or folder", error=DataError)
        found += list(_walk(root, endings)) if root.is_dir() else [root]
    need(
        found,
        f"{', '.join(paths)}: no file that ends in {' or '.join(endings) or 'anything'}",
        error=DataError,
    )
    return found


def _walk(root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    for folder in _tree(root):
        yield from files_of(folder, root, endings)


def _tree(root: Path) -> Iterator[Path]:
    """A folder and all below it, by name, however deep; links to folders are not followed."""
    todo = [root]
    while todo:
        yield (folder := todo.pop())
        try:
            with os.scandir(folder) as found:
                inner = sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
        except OSError:  # we may not look into it, or its path is too long for anybody
            continue
        todo += [folder / name for name in reversed(inner)]


def files_of(folder: Path, root: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """The readable files directly in a folder, by name; links that lead out of the root do not count."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.lower().endswith(endings) and path.is_file() and _encodes(name) and _inside(path, root):
            yield path


def folders(paths: tuple[str, ...], endings: tuple[str, ...], alone: str = "\0") -> list[Path]:
    """Every folder that directly holds such a file, and every file whose name ends in `alone`."""
    found: dict[Path, None] = {}
    for path in find(paths, endings):
        found[path if path.name.lower().endswith(alone) or str(path) in paths else path.parent] = None
    return list(found)


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8; no table could hold it
        return False
    return True


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(root.resolve())


def root_of(paths: tuple[str, ...], path: Path) -> Path:
    """Which of the recipe's paths a piece is of."""
    for root in map(Path, paths):
        if path == root or path.is_relative_to(root):
            return root
    raise DataError(f"{path}: not below {', '.join(paths)}")


def key(paths: tuple[str, ...], path: Path) -> str:
    """What a file is called in its source: its path from the folder that the recipe names on."""
    root = root_of(paths, path)
    return (Path(root.resolve().name) / path.relative_to(root)).as_posix()


def one_key_each(paths: tuple[str, ...], found: list[Path]) -> tuple[str, ...]:
    """The files as pieces, if no two are called the same: ids come from these names."""
    names: dict[str, Path] = {}
    for path in found:
        other = names.setdefault(key(paths, path), path)
        need(other is path, f"{path} and {other} have one name here", "two sources", DataError)
    return tuple(map(str, found))


def opened(path: Path) -> BinaryIO:
    """The file's bytes; gzip and Zstandard, known by their first bytes, are decompressed as they are read."""
    stream = path.open("rb")
    start = stream.read(4)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        stream.close()
        return cast(BinaryIO, gzip.open(path))
    if start == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return io.BufferedReader(
            cast(io.RawIOBase, reader.stream_reader(stream, read_across_frames=True)), 1 << 16
        )
    return stream


def lines(stream: BinaryIO, most: int) -> Iterator[tuple[int, bytes | None]]:
    """(length, line with its end); no line where it is longer than `most` bytes: that is passed over."""
    while line := stream.readline(most + 1):
        length = len(line)
        if length <= most or line.endswith(b"\n"):
            yield length, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(CHUNK)
            length += len(line)
        yield length, None
