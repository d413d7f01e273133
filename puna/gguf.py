"""The GGUF container: one file of keys and tensors, where nothing is believed before it is checked.

    "GGUF" version tensor-count key-count | keys | tensor infos | padding | tensor data, each tensor aligned

Numbers are little-endian. Every count, length, dimension and offset is held against the file's size before it
is used, so a damaged or hostile file costs an error message, never more memory than a few times its header.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from puna.errors import WeightsError, need

KINDS = {  # type number: (name, elements of a block, bytes of a block)
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    30: ("BF16", 1, 2),
}
_UNREAD = {
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    21: "IQ3_S",
    22: "IQ2_S",
    29: "IQ1_M",
    39: "MXFP4",
}
NO_WEIGHTS = ("I8", "I16", "I32", "I64", "F64")  # kinds that files may hold and models do not
BLOCKS = {name: (elements, size) for name, elements, size in KINDS.values()}

NUMBERS: dict[int, np.dtype] = {  # type number of a value: how numpy reads it
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
STRING, ARRAY = 8, 9
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")

ALIGNMENT = 32
MOST_HEADER = 2**28  # bytes; the largest vocabularies take 20 MB
MOST_KEYS = MOST_TENSORS = 2**16
MOSTSTRINGS = 2**22  # in one array; Llama 3 has 280,147 merges
MOST_NAME = 256  # bytes
_AGAIN = "download or convert the file again"


@dataclass(frozen=True)
class Entry:
    """One tensor: `shape` is in PyTorch's order, rows first; `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    nbytes: int


@dataclass(frozen=True, eq=False, repr=False)
class Gguf:
    """An open file. Arrays of numbers are numpy's, of strings lists; tensor data stays on disk."""

    path: Path
    version: int
    keys: Mapping[str, Any]
    tensors: dict[str, Entry]
    _map: mmap.mmap
    _bytes: np.ndarray

    def data(self, name: str) -> np.ndarray:
        """The stored bytes of a tensor, uint8, a read-only view of the mapped file."""
        entry = self.tensors[name]
        return self._bytes[entry.offset : entry.offset + entry.nbytes]

    def forget(self, data: np.ndarray) -> None:
        """Let go of the memory behind a part of what `data` gave; another look reads the file again."""
        begin = data.ctypes.data - self._bytes.ctypes.data
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, begin + data.nbytes - first)


def open_gguf(path: str | Path) -> Gguf:
    """Map a file and read its header, all of it checked; WeightsError says what is wrong and where."""
    path = Path(path)
    cursor = _Cursor(path, _mapped(path))
    version, tensor_count, key_count = _preamble(cursor)
    keys = _Keys()
    for _ in range(key_count):
        name = cursor.string("the name of a key", MOST_NAME)
        cursor.need(name not in keys, f"the key {name!r} stands there twice")
        keys.add(name, _value(cursor, name))
    infos = [_info(cursor) for _ in range(tensor_count)]
    tensors = _placed(cursor, infos, _alignment(cursor, keys))
    return Gguf(path, version, keys, tensors, cursor.data, np.frombuffer(cursor.data, np.uint8))


def size_in_bytes(kind: str, shape: Sequence[int], where: str) -> int:
    """What a tensor of this kind and shape takes in a file; rows must be whole blocks."""
    need(kind in BLOCKS, f"{where}: unknown type {kind!r}", f"one of {', '.join(BLOCKS)}", WeightsError)
    elements, size = BLOCKS[kind]
    need(
        all(length > 0 for length in shape),
        f"{where}: shape {tuple(shape)} holds nothing",
        error=WeightsError,
    )
    columns = shape[-1] if shape else 1
    need(
        columns % elements == 0,
        f"{where}: rows of {columns:,} are not whole {kind} blocks of {elements}",
        "a type of smaller blocks for it, such as Q8_0 or F16",
        WeightsError,
    )
    return prod(shape) // elements * size


class _Keys(Mapping[str, Any]):
    """The keys in file order. An array of strings is decoded when first asked for: merges often never are."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, _Strings):
            value = self._values[name] = value.decoded()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class _Strings:
    """Where an array of strings lies: `count` of them from byte `start` on, their lengths already checked."""

    cursor: "_Cursor"
    name: str
    start: int
    count: int

    def decoded(self) -> list[str]:
        data, at, found = self.cursor.data, self.start, []
        try:
            for _ in range(self.count):
                text = at + 8
                at = text + U64.unpack_from(data, at)[0]
                found.append(data[text:at].decode())
        except UnicodeDecodeError:
            self.cursor.fail(f"{self.name}[{len(found)}] at byte {text:,} is not UTF-8")
        return found


class _Cursor:
    """Reads a header from the front and stops with WeightsError where it would run past the end."""

    def __init__(self, path: Path, data: mmap.mmap):
        self.path, self.data, self.at = path, data, 0
        self.end = min(len(data), MOST_HEADER)

    def fail(self, problem: str, fix: str = _AGAIN) -> NoReturn:
        raise WeightsError(f"{self.path}: {problem}\n  try: {fix}")

    def need(self, condition: object, problem: str, fix: str = _AGAIN) -> None:
        if not condition:
            self.fail(problem, fix)

    def skip(self, size: int, what: str) -> int:
        """Step over `size` bytes; returns where they begin."""
        start, left = self.at, self.end - self.at
        self.need(size <= left, f"cut off: {what} at byte {start:,} takes {size:,} bytes, {left:,} are left")
        self.at = start + size
        return start

    def u32(self, what: str) -> int:
        return U32.unpack_from(self.data, self.skip(4, what))[0]

    def u64(self, what: str) -> int:
        return U64.unpack_from(self.data, self.skip(8, what))[0]

    def string(self, what: str, most: int = MOST_HEADER) -> str:
        size = self.u64(what)
        self.need(size <= most, f"{what} at byte {self.at:,} has {size:,} bytes, more than {most:,}")
        start = self.skip(size, what)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError:
            self.fail(f"{what} at byte {start:,} is not UTF-8")


def _mapped(path: Path) -> mmap.mmap:
    need(path.is_file(), f"{path}: no such file", "the path of a .gguf file", WeightsError)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            need(size >= 24, f"{path}: {size} bytes are too few for a GGUF file", _AGAIN, WeightsError)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as problem:
        raise WeightsError(f"{path}: cannot be read ({problem.strerror})") from None


def _preamble(cursor: _Cursor) -> tuple[int, int, int]:
    """Version and counts, held against what the smallest possible keys and infos would take."""
    magic = bytes(cursor.data[cursor.skip(4, "the magic") : 4])
    cursor.need(magic == b"GGUF", f"not GGUF: the file begins with {magic!r}", "a .gguf file")
    version = cursor.u32("the version")
    convert = "convert the model with a current converter"
    cursor.need(version & 0xFFFF or not version, "big-endian GGUF is not supported", convert)
    cursor.need(version in (2, 3), f"GGUF version {version} is not supported, only 2 and 3", convert)
    tensors, keys = cursor.u64("the tensor count"), cursor.u64("the key count")
    left = cursor.end - cursor.at
    fits = keys <= MOST_KEYS and tensors <= MOST_TENSORS and keys * 13 + tensors * 32 <= left
    cursor.need(fits, f"{keys:,} keys and {tensors:,} tensors cannot stand in {left:,} bytes of header")
    return version, tensors, keys


def _value(cursor: _Cursor, name: str) -> Any:
    number = cursor.u32(f"the type of {name!r}")
    if number == STRING:
        return cursor.string(f"{name!r}")
    if number == ARRAY:
        return _array(cursor, name)
    return _numbers(cursor, name, number, 1)[0].item()


def _array(cursor: _Cursor, name: str) -> Any:
    number, count = cursor.u32(f"the type of {name!r}"), cursor.u64(f"the length of {name!r}")
    cursor.need(number != ARRAY, f"{name!r} is an array of arrays, which GGUF files of models do not have")
    if number != STRING:
        return _numbers(cursor, name, number, count)
    start, left = cursor.at, cursor.end - cursor.at
    fits = count <= MOSTSTRINGS and count * 8 <= left
    cursor.need(fits, f"{name!r} claims {count:,} strings in {left:,} bytes")
    cursor.at = _end_of_strings(cursor, name, count)
    return _Strings(cursor, name, start, count)


def _end_of_strings(cursor: _Cursor, name: str, count: int) -> int:
    """Walk the lengths only; 280,147 merges take 25 ms."""
    data, at, last = cursor.data, cursor.at, cursor.end - 8
    for index in range(count):
        if at > last:
            cursor.fail(f"cut off: {name}[{index}] begins at byte {at:,} of {cursor.end:,}")
        at += 8 + U64.unpack_from(data, at)[0]
    cursor.need(at <= cursor.end, f"cut off: {name!r} reaches to byte {at:,} of {cursor.end:,}")
    return at


def _numbers(cursor: _Cursor, name: str, number: int, count: int) -> np.ndarray:
    cursor.need(number in NUMBERS, f"{name!r} has the unknown value type {number}")
    dtype = NUMBERS[number]
    start = cursor.skip(count * dtype.itemsize, f"{name!r}")
    if dtype == np.bool_:
        stored = np.frombuffer(cursor.data, np.uint8, count, start)
        cursor.need((stored <= 1).all(), f"{name!r} at byte {start:,} is a bool that is neither 0 nor 1")
    return np.frombuffer(cursor.data, dtype, count, start).copy()


def _alignment(cursor: _Cursor, keys: _Keys) -> int:
    alignment = keys.get("general.alignment", ALIGNMENT)
    good = type(alignment) is int and alignment >= 8 and alignment & (alignment - 1) == 0
    cursor.need(good, f"general.alignment is {str(alignment)[:40]}, not a power of two from 8 on")
    return alignment


def _info(cursor: _Cursor) -> Entry:
    """One tensor info; the offset still counts from the data's start."""
    name = cursor.string("the name of a tensor", MOST_NAME)
    count = cursor.u32(f"the dimensions of {name!r}")
    cursor.need(1 <= count <= 4, f"{name!r} has {count:,} dimensions, not 1 to 4")
    dims = [cursor.u64(f"the dimensions of {name!r}") for _ in range(count)]
    cursor.need(all(dims), f"{name!r} has a dimension of 0: {dims}")
    number = cursor.u32(f"the type of {name!r}")
    cursor.need(
        number in KINDS,
        f"{name!r} is stored as {_UNREAD.get(number, f'unknown type {number}')}, which Puna does not read",
        f"a file of one of {', '.join(kind for kind in BLOCKS if kind not in NO_WEIGHTS)}",
    )
    kind, shape = KINDS[number][0], tuple(reversed(dims))
    size = size_in_bytes(kind, shape, f"{cursor.path}: {name!r}")
    return Entry(name, shape, kind, cursor.u64(f"the offset of {name!r}"), size)


def _placed(cursor: _Cursor, infos: list[Entry], alignment: int) -> dict[str, Entry]:
    """The infos with offsets from the file's start: inside the file, aligned, each for itself."""
    start, size = up(cursor.at, alignment), len(cursor.data)
    tensors: dict[str, Entry] = {}
    for info in infos:
        entry = Entry(info.name, info.shape, info.kind, start + info.offset, info.nbytes)
        cursor.need(entry.name not in tensors, f"the tensor {entry.name!r} stands there twice")
        cursor.need(
            info.offset % alignment == 0,
            f"{entry.name!r} begins at {info.offset:,}, no multiple of the alignment {alignment}",
        )
        end = entry.offset + entry.nbytes
        cursor.need(end <= size, f"cut off: {entry.name!r} reaches to byte {end:,} of {size:,}")
        tensors[entry.name] = entry
    free, before = 0, ""
    for entry in sorted(tensors.values(), key=lambda entry: entry.offset):
        cursor.need(entry.offset >= free, f"the tensors {before!r} and {entry.name!r} overlap")
        free, before = entry.offset + entry.nbytes, entry.name
    return tensors


def up(at: int, alignment: int) -> int:
    """The first multiple of the alignment that is not before `at`."""
    return -(-at // alignment) * alignment
