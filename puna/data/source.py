"""Where documents come from: a source names its pieces, and reads one of them as tables in bounded batches.

A piece is the unit of work and of repair: a WARC, a Parquet file, a folder of pages. Its name is stable from
run to run, because task numbers follow the order of `inputs()`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from pyarrow import fs

from puna.errors import ConfigError, need
from puna.settings import Settings


@runtime_checkable
class Source(Protocol):
    name: str

    def inputs(self) -> tuple[str, ...]:
        """Its pieces, in an order that stays."""
        ...

    def read(self, piece: str) -> Iterator[pa.Table]:
        """The documents of one piece, in the columns of document.SCHEMA, in batches that fit in memory."""
        ...


def described(source: Source) -> dict[str, Any]:
    """What a source is set to, as plain values: its part of a fingerprint."""
    version = {"class": type(source).__name__, "version": getattr(source, "version", 1)}
    if isinstance(source, Settings):
        return version | source.model_dump(mode="json")
    plain = dataclasses.is_dataclass(source) and not isinstance(source, type)
    need(plain, f"source {source.name!r} is neither Settings nor a dataclass", error=ConfigError)
    return version | dataclasses.asdict(source)  # type: ignore[call-overload]


def piece_bytes(piece: str) -> int | None:
    """The size of a piece that is a file; None where its name says nothing about a file."""
    info = _file(piece)
    return info.size if info else None


def piece_stamp(piece: str) -> str:
    """Changes when a piece that is a file does: its size and time of writing. Else empty: the name decides."""
    info = _file(piece)
    return f"{info.size}-{info.mtime_ns}" if info else ""


def _file(piece: str) -> fs.FileInfo | None:
    try:
        place = fs.FileSystem.from_uri(piece) if "://" in piece else (fs.LocalFileSystem(), piece)
        info = place[0].get_file_info(place[1])
    except (OSError, ValueError):  # not an address that Arrow knows
        return None
    return info if info.type == fs.FileType.File else None
