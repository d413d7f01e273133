"""A file or folder by its address: on this machine, or in a store that many machines reach.

A path is a pathlib.Path. An address such as `s3://bucket/crawl` is a `Remote`, with the few methods of Path
that sources use. Arrow's file systems come first (s3, gs, abfs), fsspec serves the rest (https, az). After
the last `?` an address has settings of its file system: `s3://bucket/x?region=eu-west-1`. Secrets come from
the environment: recipes are saved with their runs.

What a place fails to give is never taken for damage of the file: a `StoreError` ends the task, none is half
counted. Repeating requests is the business of the file systems.
"""

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import pyarrow as pa
from pyarrow import fs

from puna.errors import ConfigError, DataError, need

RANGE = 4 << 20  # bytes that one request to a store asks for
PART = re.compile(r"@(\d+(?:-\d+)?)$")
Given = TypeVar("Given")
Answer = TypeVar("Answer")
WEB = ("http", "https")  # there, all of an address belongs to the file


class StoreError(DataError):
    """A store that did not do what it was asked."""

    exit_code = 1


@dataclass(frozen=True)
class Remote:
    root: str  # "s3://bucket"
    inner: str  # "crawl/a.warc.gz"; "" is the root itself
    options: str = ""  # "region=eu-west-1"
    known: fs.FileInfo | None = field(default=None, compare=False, repr=False)  # where a listing said it

    def __str__(self) -> str:
        mark = f"?{self.options}" if self.options or ("?" in self.inner and not self._web()) else ""
        return f"{self.root}/{self.inner}{mark}" if self.inner else f"{self.root}{mark}"

    @property
    def name(self) -> str:
        return str(self).rpartition("/")[2].partition("?")[0] if self._web() else self.parts[-1]

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.root.rpartition("/")[2], *filter(None, self.inner.split("/")))

    @property
    def parent(self) -> "Remote":
        return Remote(self.root, self.inner.rpartition("/")[0], self.options)

    def relative_to(self, other: "Remote") -> str:
        return "/".join(self.parts[len(other.parts) :])

    def is_relative_to(self, other: "Remote") -> bool:
        same = (self.root, self.options) == (other.root, other.options)
        return same and self.parts[: len(other.parts)] == other.parts

    def info(self) -> fs.FileInfo:
        """What the store says of it, or has said when it listed the folder."""
        if self.known:
            return self.known
        system, path = self.where()
        with telling(str(self)):
            return system.get_file_info(path)

    def exists(self) -> bool:
        return self.info().type != fs.FileType.NotFound

    def is_dir(self) -> bool:
        return self.info().type == fs.FileType.Directory

    def is_file(self) -> bool:
        return self.info().type == fs.FileType.File

    def files(self, deep: bool = False) -> Iterator["Remote"]:
        """The files right in it, or all below it, in no order."""
        system, path = self.where()
        with telling(str(self)):
            found = system.get_file_info(fs.FileSelector(path, recursive=deep, allow_not_found=True))
        start = path.strip("/")
        for info in found:
            if info.type == fs.FileType.File:
                below = info.path.strip("/").removeprefix(start).strip("/")
                inner = f"{self.inner}/{below}" if self.inner else below
                yield Remote(self.root, inner, self.options, info)

    def where(self) -> tuple[fs.FileSystem, str]:
        """Its file system, and its path there."""
        mark = f"?{self.options}" if self.options else ""
        system, start = _system(self.root + mark)
        return system, f"{start.rstrip('/')}/{self.inner}" if self.inner else start

    def _web(self) -> bool:
        return self.root.partition("://")[0] in WEB


def located(address: "str | Path | Remote") -> Path | Remote:
    """The file or folder at a path or an address."""
    if not isinstance(address, str) or "://" not in address:
        return address if isinstance(address, Remote) else Path(address)
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        return Path(f"/{rest.lstrip('/')}")
    user, _, secret = rest.partition("/")[0].rpartition("@")[0].partition(":")
    need(not secret, f"{scheme}://{user}:...: a secret in an address would be saved with the run",
         "the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", ConfigError)  # fmt: skip
    options = ""
    if "?" in rest and scheme not in WEB:
        rest, _, options = rest.rpartition("?")
    authority, _, inner = rest.partition("/")
    return Remote(f"{scheme}://{authority}", inner.strip("/"), options)


def cut(at: Path | Remote, part: str) -> str:
    """What a part of a file is called: `path@part`, part a number or two with a dash."""
    return str(replace(at, inner=f"{at.inner}@{part}")) if isinstance(at, Remote) else f"{at}@{part}"


def parted(piece: str) -> tuple[Path | Remote, str]:
    """The file or folder of a piece, and which part of it the piece is; "" where it is not cut."""
    at = located(piece)
    name = at.inner if isinstance(at, Remote) else str(at)
    part = PART.search(name)
    if not part or at.exists():  # a file may have such a name
        return at, ""
    whole = name[: part.start()]
    return Remote(at.root, whole, at.options) if isinstance(at, Remote) else Path(whole), part[1]


def where(at: Path | Remote) -> tuple[fs.FileSystem, str]:
    return (fs.LocalFileSystem(), str(at)) if isinstance(at, Path) else at.where()


def size_of(at: Path | Remote) -> int:
    return at.stat().st_size if isinstance(at, Path) else at.info().size


def at_once(ask: Callable[[Given], Answer], given: Iterable[Given]) -> list[Answer]:
    """The answers to many small questions to a store: it takes as long to say one as to say thirty-two."""
    with ThreadPoolExecutor(32) as hands:
        return list(hands.map(ask, given))


def open_bytes(at: Path | Remote) -> BinaryIO:
    """The bytes of a file, read as they are asked for."""
    if isinstance(at, Path):
        return stream(at.open("rb", buffering=0), str(at), 1 << 17)
    system, path = at.where()
    with telling(str(at)):
        return stream(system.open_input_file(path), str(at))


def stream(raw: Any, name: str, ahead: int = RANGE) -> BinaryIO:
    """An open file, read `ahead` bytes at a time (0: as asked for); what goes wrong below is a StoreError."""
    steady = _Steady(raw, name)
    return cast(BinaryIO, io.BufferedReader(steady, ahead) if ahead else steady)


class _Steady(io.RawIOBase):
    def __init__(self, raw: Any, name: str):
        self.raw, self.address = raw, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.raw.seekable()

    def readinto(self, buffer: Any) -> int:
        with telling(self.address):
            return self.raw.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        with telling(self.address):
            self.raw.seek(offset, whence)
            return self.raw.tell()

    def tell(self) -> int:
        return self.raw.tell()

    def close(self) -> None:
        if not self.closed:
            self.raw.close()
        super().close()


@contextmanager
def telling(address: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """What a place answers in the block, if it is an error (`but` this one), becomes a sentence."""
    try:
        yield
    except but:
        raise
    except _failures() as problem:
        missing = isinstance(problem, FileNotFoundError)
        why = "no such file or folder" if missing else str(problem).strip().partition("\n")[0][:300]
        fix = "its name, then the rights to it; where it was busy, run again: what is done stays done"
        raise StoreError(f"{address}: {why or type(problem).__name__}\n  try: {fix}") from None


def _failures() -> tuple[type[Exception], ...]:
    """What file systems raise; some of fsspec's let errors of their client through."""
    client = sys.modules.get("aiohttp")
    return (OSError, client.ClientError) if client else (OSError,)


@lru_cache(maxsize=64)
def _system(address: str) -> tuple[fs.FileSystem, str]:
    try:
        with telling(address):
            return fs.FileSystem.from_uri(_frugal(address))
    except pa.ArrowInvalid as problem:
        unknown = re.search("nrecognized filesystem", str(problem))
        need(unknown, f"{address}: {problem}", "the address as docs/data.md writes it", ConfigError)
    except pa.ArrowNotImplementedError:  # an Arrow that was built without it
        pass
    return _through_fsspec(address)


def _frugal(address: str) -> str:
    """Small files take one request to S3, not three."""
    mark = "&" if "?" in address else "?"
    small = address.startswith("s3://") and "allow_delayed_open" not in address
    return f"{address}{mark}allow_delayed_open=true" if small else address


def _through_fsspec(address: str) -> tuple[fs.FileSystem, str]:
    try:
        import fsspec

        found, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except (ImportError, ValueError) as problem:
        fix = "pip install fsspec, and its package for this kind of address: adlfs for az, aiohttp for https"
        raise ConfigError(f"{address}: no file system for it: {problem}\n  try: {fix}") from None
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path
