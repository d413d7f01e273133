"""Where documents come from: a source names its pieces, and reads one of them as tables in bounded batches.

A piece is the unit of work and of repair: a WARC, a Parquet file, a folder of pages. Its name is stable from
run to run, because task numbers follow the order of `inputs()`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
from pyarrow import fs
from pydantic import BaseModel

from puna.data.place import parted, telling, where
from puna.errors import ConfigError, need


@runtime_checkable
class Source(Protocol):
    name: str

    def inputs(self) -> tuple[str, ...]:
        """Its pieces, in an order that stays."""
        ...

    def tables(self, piece: str) -> Iterator[pa.Table]:
        """The documents of one piece, in the columns of document.SCHEMA, in batches that fit in memory."""
        ...


def described(source: Source) -> dict[str, Any]:
    """What a source is set to, as plain values: its part of a fingerprint."""
    version = {"class": type(source).__name__, "version": getattr(source, "version", 1)}
    given: Any = source
    if isinstance(given, BaseModel):
        return version | given.model_dump(mode="json")
    need(
        dataclasses.is_dataclass(given),
        f"source {source.name!r}: no Settings, no dataclass",
        error=ConfigError,
    )
    return version | dataclasses.asdict(given)


def piece_bytes(piece: str) -> int:
    """The size of a piece that is a file or a folder of files; 0 where its name says nothing about any."""
    return sum(info.size for info in piece_files(piece))


def piece_stamp(piece: str) -> str:
    """Changes when the file, or a file of the folder, that a piece names does: by size and time of writing.

    Empty where a piece names no file: then its name decides alone.
    """
    found = [[info.base_name, info.size, info.mtime_ns] for info in piece_files(piece)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if found else ""


def piece_files(piece: str) -> list[fs.FileInfo]:
    """The file that a piece is, or is of, or the files right in its folder."""
    system, path = where(parted(piece)[0])
    with telling(piece):
        info = system.get_file_info(path)
        folder = info.type == fs.FileType.Directory
        found = system.get_file_info(fs.FileSelector(path)) if folder else [info]
    files = [one for one in found if one.type == fs.FileType.File and _is_named(one)]
    return sorted(files, key=lambda one: one.base_name)


def _is_named(info: fs.FileInfo) -> bool:
    """Whether its name is UTF-8; no source reads what has another."""
    try:
        return bool(info.base_name)
    except UnicodeDecodeError:
        return False
