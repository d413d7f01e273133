"""One folder of files, here or in an object store; every file appears whole or not at all.

On a file system a file is written beside its place and renamed. In an object store a put is whole by itself.
Arrow's file systems come first (local, s3, gs, abfs, hdfs); fsspec serves the rest.
"""

import errno
import hashlib
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from puna.errors import DataError, need

PUT_IS_WHOLE = ("s3", "gcs", "abfs")
BLOCK = 4 << 20  # bytes of one ranged read
ROOM, PLACE = "make room, then run again: what is done stays done", "a folder that can be written"
REFUSED = {
    errno.ENOSPC: ("is full", ROOM),
    errno.EDQUOT: ("is over its quota", ROOM),
    errno.EFBIG: ("refuses a file so large", ROOM),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), ("is no folder", PLACE)),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ("cannot be written", PLACE)),
}


class Sink(io.RawIOBase):
    """A file being written; it knows the SHA-256 and the size of what went through."""

    def __init__(self, stream: Any):
        self.stream, self.hash, self.size = stream, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.stream.write(view)
        self.hash.update(view)
        self.size += view.nbytes
        return view.nbytes


@dataclass(frozen=True)
class Store:
    filesystem: fs.FileSystem
    base: str

    @classmethod
    def at(cls, place: "str | Path | Store") -> "Store":
        """The store at a path or an address such as s3://bucket/run."""
        if isinstance(place, Store):
            return place
        if "://" not in str(place):
            return cls(fs.LocalFileSystem(), str(Path(place).resolve()))
        try:
            return cls(*fs.FileSystem.from_uri(str(place)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return cls._through_fsspec(str(place))

    @classmethod
    def _through_fsspec(cls, address: str) -> "Store":
        try:
            import fsspec

            found, path = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as problem:
            raise DataError(
                f"{address}: no file system for it: {problem}\n  try: pip install fsspec"
            ) from None
        return cls(fs.PyFileSystem(fs.FSSpecHandler(found)), path)

    def path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def size(self, name: str) -> int | None:
        info = self.filesystem.get_file_info(self.path(name))
        return info.size if info.type == fs.FileType.File else None

    def open(self, name: str) -> pa.NativeFile:
        try:
            return self.filesystem.open_input_file(self.path(name))
        except FileNotFoundError:
            raise DataError(f"{self.path(name)} is gone\n  try: run again, it will be made anew") from None

    def read(self, name: str) -> bytes | None:
        """All of a small file; None where there is none."""
        if self.size(name) is None:
            return None
        with self.open(name) as file:
            return file.read()

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.open(name) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def writing(self, name: str) -> Iterator[Sink]:
        """The file appears under its name when the block ends well; else nothing is left of it."""
        final = self.path(name)
        folder, _, leaf = final.rpartition("/")
        whole = self.filesystem.type_name in PUT_IS_WHOLE or self.filesystem.type_name.startswith("py::")
        beside = final if whole else f"{folder}/.{leaf}.{uuid.uuid4().hex}"
        try:
            if self.filesystem.type_name not in PUT_IS_WHOLE:
                self.filesystem.create_dir(folder, recursive=True)
            with self.filesystem.open_output_stream(beside) as stream:
                yield Sink(stream)
            if beside != final:
                self.filesystem.move(beside, final)
        except BaseException as problem:
            if self.filesystem.get_file_info(beside).type == fs.FileType.File:
                self.filesystem.delete_file(beside)
            if isinstance(problem, OSError) and problem.errno in REFUSED:
                said, fix = REFUSED[problem.errno]
                raise DataError(f"{self.base} {said} ({problem.strerror})\n  try: {fix}") from problem
            raise

    def put(self, name: str, data: bytes) -> None:
        with self.writing(name) as sink:
            sink.write(data)

    def names(self, folder: str = "") -> list[str]:
        """Every file below a folder, sorted."""
        below = fs.FileSelector(self.path(folder).rstrip("/"), recursive=True, allow_not_found=True)
        found = [info.path for info in self.filesystem.get_file_info(below) if info.type == fs.FileType.File]
        return sorted(path[path.index(self.base) + len(self.base) + 1 :] for path in found)

    def delete(self, name: str) -> None:
        self.filesystem.delete_file(self.path(name))

    def need_run(self) -> None:
        need(self.size("run.json") is not None, f"{self.base} holds no run", "puna data run", DataError)
