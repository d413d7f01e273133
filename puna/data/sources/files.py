"""Files as sources find and open them: in one order, none outside their folder, unpacked as they are read.

A path of a recipe is a file, a folder, or a pattern of files: `crawl/*.warc.gz`, `s3://bucket/**.warc.gz`
(`*` stays in its folder, `**` does not). The order is the same on every file system: files by name, then
folders by name, so that tasks have the same numbers everywhere.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import zstandard

from puna.data.place import Remote, located, open_bytes
from puna.errors import DataError, need

Place = Path | Remote
BROKEN = (OSError, EOFError, zlib.error, zstandard.ZstdError)  # what a damaged file raises while it is read
WINDOW = 1 << 27  # bytes; zstd's own limit. A frame may ask for 2 GiB
CHUNK = 1 << 20


def find(paths: tuple[str, ...], endings: tuple[str, ...]) -> list[Place]:
    """Files that paths name, and those in folders among them whose name ends so; in one order."""
    return [at for at, _ in _found(paths, endings)]


def _found(paths: tuple[str, ...], endings: tuple[str, ...]) -> list[tuple[Place, bool]]:
    """Files, and whether a path or a pattern names each by itself."""
    found: list[tuple[Place, bool]] = []
    for path in paths:
        root, pattern = _root(path)
        need(pattern or root.exists(), f"{path}: no such file or folder", error=DataError)
        if pattern:
            fits = _fitting(pattern)
            inside = _walk(root, deep="/" in pattern or "**" in pattern)
            found += [(at, True) for at in inside if fits.fullmatch(_below(at, root))]
        elif root.is_dir():
            found += [(at, False) for at in _walk(root) if at.name.lower().endswith(endings)]
        else:
            found.append((root, True))
    ends = " or ".join(endings) or "anything"
    need(found, f"{', '.join(paths)}: no file that ends in {ends}, or that fits",
         "a file, a folder, or a pattern such as crawl/*.warc.gz", DataError)  # fmt: skip
    return found


def _root(path: str) -> tuple[Place, str]:
    """The file or folder of a path, and the pattern of files below it, if it has one."""
    at = located(path)
    inner = at.inner if isinstance(at, Remote) else str(at)
    if "*" not in inner or (isinstance(at, Path) and at.exists()):
        return at, ""
    head = inner.partition("*")[0]
    folder = head[: head.rfind("/") + 1]
    pattern = inner[len(folder) :]
    if isinstance(at, Remote):
        return Remote(at.root, folder.strip("/"), at.options), pattern
    return Path(folder), pattern


def _fitting(pattern: str) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))


def _walk(root: Place, deep: bool = True) -> Iterator[Place]:
    """The files in a folder, if `deep` all below it: files by name, then folders by name."""
    if isinstance(root, Remote):
        inside = [(_below(at, root).split("/"), at) for at in root.files(deep) if _encodes(str(at))]
        yield from (at for _, at in sorted(inside, key=lambda one: _order(one[0])))
        return
    for folder in _tree(root) if deep else [root]:
        yield from files_of(folder, root, ("",))


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


def _order(parts: list[str]) -> list[tuple[bool, str]]:
    return [(last < len(parts), part) for last, part in enumerate(parts, 1)]


def _below(at: Place, root: Place) -> str:
    """The path from a folder to what is in it."""
    if isinstance(at, Remote) and isinstance(root, Remote):
        return at.relative_to(root)
    return Path(str(at)).relative_to(str(root)).as_posix()


def files_of(folder: Place, root: Place, endings: tuple[str, ...]) -> Iterator[Place]:
    """The readable files directly in a folder, by name; links that lead out of the root do not count."""
    if isinstance(folder, Remote):
        inside = [at for at in folder.files() if at.name.lower().endswith(endings) and _encodes(str(at))]
        yield from sorted(inside, key=lambda at: at.name)
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.lower().endswith(endings) and path.is_file() and _encodes(name) and _inside(path, root):
            yield path


def folders(paths: tuple[str, ...], endings: tuple[str, ...], alone: str = "\0") -> list[Place]:
    """Every folder that directly holds such a file; files that are named, or end in `alone`."""
    found: dict[Place, None] = {}
    for at, named in _found(paths, endings):
        found[at if named or at.name.lower().endswith(alone) else at.parent] = None
    return list(found)


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8; no table could hold it
        return False
    return True


def _inside(path: Path, root: Place) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(Path(str(root)).resolve())


def root_of(paths: tuple[str, ...], at: Place) -> Place:
    """Which of the recipe's paths a piece is of."""
    for path in paths:
        root = _root(path)[0]
        if at == root or (type(at) is type(root) and at.is_relative_to(root)):  # type: ignore[arg-type]
            return root
    raise DataError(f"{at}: not below {', '.join(paths)}")


def key(paths: tuple[str, ...], at: Place) -> str:
    """What a file is called in its source: its path from the folder that the recipe names on."""
    root = root_of(paths, at)
    name = root.name if isinstance(root, Remote) else root.resolve().name
    return (PurePosixPath(name) / _below(at, root)).as_posix()


def one_key_each(paths: tuple[str, ...], found: list[Place]) -> tuple[str, ...]:
    """The files as pieces, if no two are called the same: ids come from these names."""
    names: dict[str, Place] = {}
    for at in found:
        other = names.setdefault(key(paths, at), at)
        need(other is at, f"{at} and {other} have one name here", "two sources", DataError)
    return tuple(map(str, found))


def opened(at: Place) -> BinaryIO:
    """The file's bytes; gzip and Zstandard, known by their first bytes, are decompressed as they are read."""
    stream = cast(io.BufferedReader, open_bytes(at))
    start = stream.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        packed = gzip.GzipFile(fileobj=stream)
        packed.myfileobj = stream  # type: ignore[assignment]  # closed together
        return cast(BinaryIO, packed)
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
