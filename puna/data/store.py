"""One folder of files, here or in an object store; every file appears whole or not at all.

On a file system a file is written beside its place and renamed. For an object store it is written to a
temporary file here and sent when it is whole: a stream into a store that is closed in the middle of an error
would leave half an object behind.
"""

import errno
import hashlib
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
from pyarrow import fs

from puna.data.place import located, stream, telling
from puna.errors import DataError, need

RENAMES = ("local", "subtree", "hdfs")  # file systems with folders, where a rename is atomic
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
        found = located(place)
        if isinstance(found, Path):
            return cls(fs.LocalFileSystem(), str(found.resolve()))
        return cls(*found.where())

    def path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def size(self, name: str) -> int | None:
        with telling(self.path(name)):
            info = self.filesystem.get_file_info(self.path(name))
        return info.size if info.type == fs.FileType.File else None

    def open(self, name: str) -> pa.NativeFile:
        """The file, read as it is asked for."""
        try:
            return self._opened(name)
        except FileNotFoundError:
            raise DataError(f"{self.path(name)} is gone\n  try: run again, it will be made anew") from None

    def read(self, name: str) -> bytes | None:
        """All of a small file; None where there is none."""
        try:
            with self._opened(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _opened(self, name: str) -> pa.NativeFile:
        path = self.path(name)
        if self._renames():
            return self.filesystem.open_input_file(path)
        with telling(path, but=FileNotFoundError):
            return pa.PythonFile(stream(self.filesystem.open_input_file(path), path, ahead=0), "r")

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.open(name) as file:
            while block := file.read(BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def _renames(self) -> bool:
        return self.filesystem.type_name in RENAMES

    @contextmanager
    def writing(self, name: str) -> Iterator[Sink]:
        """The file appears under its name when the block ends well; else nothing is left of it."""
        final = self.path(name)
        folder, _, leaf = final.rpartition("/")
        if not self._renames():
            with NamedTemporaryFile() as made:
                yield Sink(made)
                made.flush()
                self._send(made.name, final)
            return
        beside = f"{folder}/.{leaf}.{uuid.uuid4().hex}"
        try:
            self.filesystem.create_dir(folder, recursive=True)
            with self.filesystem.open_output_stream(beside, compression=None) as stream:
                yield Sink(stream)
            self.filesystem.move(beside, final)
        except BaseException as problem:
            if self.filesystem.get_file_info(beside).type == fs.FileType.File:
                self.filesystem.delete_file(beside)
            if isinstance(problem, OSError) and problem.errno in REFUSED:
                said, fix = REFUSED[problem.errno]
                raise DataError(f"{self.base} {said} ({problem.strerror})\n  try: {fix}") from problem
            raise

    def _send(self, made: str, final: str) -> None:
        """Put a whole file into an object store, in one call: no error here can end it half way."""
        with telling(final):
            if self.filesystem.type_name.startswith("py::"):  # some of fsspec's have folders
                self.filesystem.create_dir(final.rpartition("/")[0], recursive=True)
            out = self.filesystem.open_output_stream(final, compression=None)  # else by the name's ending
            with pa.memory_map(made) as source, out:
                out.write(source.read_buffer())

    def put(self, name: str, data: bytes) -> None:
        with self.writing(name) as sink:
            sink.write(data)

    def send(self, made: Path, name: str) -> None:
        """A whole file from this disk."""
        if not self._renames():
            self._send(str(made), self.path(name))
            return
        with open(made, "rb") as source, self.writing(name) as sink:
            while block := source.read(BLOCK):
                sink.write(block)

    def names(self, folder: str = "") -> list[str]:
        """Every file below a folder, sorted."""
        below = fs.FileSelector(self.path(folder).rstrip("/"), recursive=True, allow_not_found=True)
        with telling(self.base):
            infos = self.filesystem.get_file_info(below)
        found = [info.path for info in infos if info.type == fs.FileType.File]
        return sorted(path[path.index(self.base) + len(self.base) + 1 :] for path in found)

    def delete(self, name: str) -> None:
        with telling(self.path(name)):
            self.filesystem.delete_file(self.path(name))

    def need_run(self) -> None:
        need(self.size("run.json") is not None, f"{self.base} holds no run", "puna data run", DataError)
