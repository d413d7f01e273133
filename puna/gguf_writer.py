"""Writing GGUF front to back: keys, then each tensor as its bytes come, with the memory of one chunk."""

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from puna.errors import WeightsError
from puna.gguf import ALIGNMENT, ARRAY, KINDS, NUMBERS, STRING, U32, U64, size_in_bytes, up

_KIND_NUMBER = {name: number for number, (name, _, _) in KINDS.items()}
_VALUE_NUMBER = {dtype: number for number, dtype in NUMBERS.items()}


class GgufWriter:
    """Writes a file front to back: `with GgufWriter(path, keys, tensors) as file: file.write(name, bytes)`.

    `tensors` is every (name, shape, kind) in the order in which the data will come; a tensor's data may come
    in any number of chunks. The file gets its name only when it is whole; after a failure nothing is left.
    """

    def __init__(
        self, path: Path, keys: Mapping[str, Any], tensors: Sequence[tuple[str, tuple[int, ...], str]]
    ):
        self.path, self._part = path, path.with_name(f".{path.name}.{os.getpid()}.part")
        self._alignment = keys.get("general.alignment", ALIGNMENT)
        self._due = [(name, size_in_bytes(kind, shape, name)) for name, shape, kind in tensors]
        self._header = _header(keys, tensors, self._alignment)
        self._written = 0  # bytes of the tensor whose turn it is

    def __enter__(self) -> Self:
        with self._problems_told():
            self._file = open(self._part, "wb")  # closed by __exit__
        try:
            self._put(self._header)
        except WeightsError:
            self._drop()
            raise
        return self

    def write(self, name: str, chunk: np.ndarray) -> None:
        """Append bytes to the tensor whose turn it is."""
        assert self._due and name == self._due[0][0], f"it is not the turn of {name}"
        size = self._due[0][1]
        self._written += chunk.nbytes
        assert self._written <= size, f"{name}: {self._written:,} bytes for {size:,}"
        self._put(np.ascontiguousarray(chunk), pad=self._written == size)
        if self._written == size:
            self._written = 0
            del self._due[0]

    def _put(self, data: bytes | np.ndarray, pad: bool = True) -> None:
        with self._problems_told():
            self._file.write(data)
            at = self._file.tell()
            self._file.write(bytes(up(at, self._alignment) - at if pad else 0))

    def _drop(self) -> None:
        with suppress(OSError):  # what could not be written cannot be flushed either
            self._file.close()
        self._part.unlink(missing_ok=True)

    @contextmanager
    def _problems_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise WeightsError(f"{self.path}: cannot be written ({problem.strerror})") from None

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                assert not self._due, f"{self._due[0][0]} was never written"
                with self._problems_told():
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    os.replace(self._part, self.path)
        finally:
            self._drop()


def _header(
    keys: Mapping[str, Any], tensors: Sequence[tuple[str, tuple[int, ...], str]], alignment: int
) -> bytes:
    assert len({name for name, _, _ in tensors}) == len(tensors), "a tensor is listed twice"
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys))]
    for name, value in keys.items():
        parts += [_text(name), _packed(value, name)]
    offset = 0
    for name, shape, kind in tensors:
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        parts += [_text(name), dims, struct.pack("<IQ", _KIND_NUMBER[kind], offset)]
        offset = up(offset + size_in_bytes(kind, shape, name), alignment)
    return b"".join(parts)


def _text(text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise WeightsError(f"{text[:60]!r} holds half a character, which UTF-8 cannot write") from None
    return U64.pack(len(data)) + data


def _packed(value: Any, name: str) -> bytes:
    """A value behind its type number, as llama.cpp wants it: whole numbers u32 (in lists i32), others f32."""
    if isinstance(value, str):
        return U32.pack(STRING) + _text(value)
    if isinstance(value, list | tuple | np.ndarray):
        return U32.pack(ARRAY) + _packed_array(value, name)
    array = _typed(np.asarray(value), "<u4", name)
    return U32.pack(_VALUE_NUMBER[array.dtype]) + array.tobytes()


def _packed_array(values: Any, name: str) -> bytes:
    if len(values) and not isinstance(values[0], str):
        array = _typed(np.asarray(values), "<i4", name)
        return struct.pack("<IQ", _VALUE_NUMBER[array.dtype], len(array)) + array.tobytes()
    return struct.pack("<IQ", STRING, len(values)) + b"".join(map(_text, values))


def _typed(array: np.ndarray, whole: str, name: str) -> np.ndarray:
    """Python's numbers made 32 bits wide where they fit; numpy's own narrower types stay."""
    if array.dtype == np.float64:
        return array.astype("<f4")
    if array.dtype == np.int64 and array.min() >= np.iinfo(whole).min and array.max() <= np.iinfo(whole).max:
        return array.astype(whole)
    assert array.dtype in _VALUE_NUMBER and array.ndim <= 1, f"{name}: {array.dtype} has no place in GGUF"
    return array
