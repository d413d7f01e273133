"""Token shards: the ids of many documents in one file, to be mapped into memory instead of read.

    128 bytes   header: magic, version, bytes of an id, size and mark of the vocabulary, counts, checksums
    ids         u16 or u32, document after document, filled up to a multiple of 8 bytes
    starts      u64 x (documents + 1): document i is ids[starts[i] : starts[i + 1]], never empty
    documents   16 bytes x documents: the id that each one has in the documents' table
    sources     u32 x documents: which name of the next section each one is from
    names       UTF-8, a zero byte behind each

All numbers are little endian. One checksum is of the ids, which only `verify` reads all of; the other is of
everything else and checked whenever a file is opened.
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from puna.errors import DataError, need

MAGIC, VERSION = b"PUNATOKS", 1
SUFFIX = ".tokens"
_FIELDS = struct.Struct("<8sII5Q8s32s")  # then the checksum of these and of the index
HEADER = 128
_BLOCK = 2**24  # bytes read at a time where a whole file is read


def shard_name(number: int) -> str:
    """The file name of one shard of a folder; shards are in the order of their numbers."""
    return f"{number:06}{SUFFIX}"


@dataclass(frozen=True)
class Document:
    id: bytes  # 16 bytes
    source: str
    tokens: np.ndarray  # (T,) uint16 or uint32, a view of the file


@dataclass(frozen=True)
class Header:
    """What the first bytes of a shard say; its sections follow from the counts."""

    id_bytes: int
    vocabulary: int  # every id is below
    tokens: int
    documents: int
    sources: int
    names: int  # bytes
    tokenizer: bytes  # the first 8 of its fingerprint
    ids_sum: bytes

    @classmethod
    def read(cls, path: Path) -> "Header":
        """The header of a file that has the right length for it."""
        try:
            with open(path, "rb") as file:
                data, size = file.read(HEADER), os.fstat(file.fileno()).st_size
        except OSError as problem:
            raise DataError(f"{path}: cannot be read ({problem.strerror})") from None
        is_shard = len(data) == HEADER and data.startswith(MAGIC)
        need(is_shard, f"{path}: not a token shard", "a folder of puna's *.tokens files", DataError)
        _, version, *fields = _FIELDS.unpack_from(data)
        need(version == VERSION, f"{path}: shard version {version}; known is {VERSION}", error=DataError)
        header = cls(*fields)
        known = header.id_bytes in (2, 4) and 0 < header.vocabulary <= 256**header.id_bytes
        need(known, f"{path}: ids of {header.id_bytes} bytes below {header.vocabulary:,}", error=DataError)
        need(
            header.file_bytes() == size,
            f"{path}: {size:,} bytes long, but its counts ask for {header.file_bytes():,}",
            "write it again: it is cut or damaged",
            DataError,
        )
        return header

    def ids_end(self) -> int:
        return HEADER + self.tokens * self.id_bytes

    def index(self) -> int:
        """Where the starts stand."""
        return -(-self.ids_end() // 8) * 8

    def file_bytes(self) -> int:
        return self.index() + 8 * (self.documents + 1) + (16 + 4) * self.documents + self.names

    def packed(self, index: bytes) -> bytes:
        """The 128 bytes of this header; `index` is all that stands behind the ids."""
        said = (self.id_bytes, self.vocabulary, self.tokens, self.documents, self.sources, self.names)
        fields = _FIELDS.pack(MAGIC, VERSION, *said, self.tokenizer, self.ids_sum)
        return fields + _sum(fields + index)


class ShardWriter:
    """Writes one shard as documents come; the file appears, whole, when the `with` block ends well.

    `vocabulary` is the tokenizer's size, `tokenizer` its fingerprint. In memory stay 28 bytes a document.
    """

    def __init__(self, path: Path, vocabulary: int, sources: Sequence[str], tokenizer: str = 64 * "0"):
        assert len(set(sources)) == len(sources) and 0 < vocabulary <= 2**32
        odd = next((name for name in sources if "\0" in name), None)
        need(odd is None, f"{path}: the source {odd!r:.80} has a zero byte in its name", error=DataError)
        self.path, self.vocabulary, self.sources = Path(path), vocabulary, tuple(sources)
        self._tokenizer = bytes.fromhex(tokenizer)[:8]
        self.tokens, self._dtype = 0, np.dtype("<u2" if vocabulary <= 2**16 else "<u4")
        self._lengths: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._sources: list[np.ndarray] = []
        self._sum = hashlib.blake2b(digest_size=32)

    def __enter__(self) -> Self:
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._file = open(self._part, "wb")
        self._file.write(bytes(HEADER))
        return self

    def extend(self, tokens: np.ndarray, lengths: np.ndarray, ids: np.ndarray, sources: np.ndarray) -> None:
        """Documents: their tokens one after another, and of each the length, the id and the source's number.

        tokens (T,), lengths (N,), ids (N, 16) uint8, sources (N,)
        """
        count = len(lengths)
        assert ids.shape == (count, 16) and len(sources) == count and int(lengths.sum()) == len(tokens)
        need(bool((lengths > 0).all()), f"{self.path}: a document without tokens", error=DataError)
        highest = int(tokens.max(initial=0))
        fits = highest < self.vocabulary and int(tokens.min(initial=0)) >= 0
        need(fits, f"{self.path}: id {highest:,} in a vocabulary of {self.vocabulary:,}", error=DataError)
        assert bool((sources < len(self.sources)).all())
        data = tokens.astype(self._dtype).tobytes()
        self._file.write(data)
        self._sum.update(data)
        self.tokens += len(tokens)
        self._lengths.append(lengths.astype(np.int64))
        self._ids.append(ids.astype(np.uint8))
        self._sources.append(sources.astype("<u4"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if kind is None:
                    self._finish()
            if kind is None:
                os.replace(self._part, self.path)
        finally:
            self._part.unlink(missing_ok=True)  # there only if something failed

    def _finish(self) -> None:
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        ids = np.concatenate([np.zeros((0, 16), np.uint8), *self._ids])
        sources = np.concatenate([np.zeros(0, "<u4"), *self._sources])
        names = "".join(f"{name}\0" for name in self.sources).encode()
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype("<u8")
        index = bytes(-self._file.tell() % 8) + starts.tobytes() + ids.tobytes() + sources.tobytes() + names
        header = Header(
            id_bytes=self._dtype.itemsize,
            vocabulary=self.vocabulary,
            tokens=self.tokens,
            documents=len(lengths),
            sources=len(self.sources),
            names=len(names),
            tokenizer=self._tokenizer,
            ids_sum=self._sum.digest(),
        )
        self._file.write(index)
        self._file.seek(0)
        self._file.write(header.packed(index))
        self._file.flush()
        os.fsync(self._file.fileno())


class Shard:
    """One file, mapped. `size` tokens in `count` documents; arrays are views of the file, not to be written.

    starts (count + 1,) int64; ids (count, 16) uint8; source_of (count,) uint32: a place in `sources`
    """

    def __init__(self, path: Path):
        self.path, header = Path(path), Header.read(path)
        self.header, self.size, self.count = header, header.tokens, header.documents
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        same = self._map[:HEADER] == header.packed(self._map[header.ids_end() :])
        need(same, f"{path}: the checksum of its index is wrong", "write it again: it is damaged", DataError)
        self._tokens = self._section(f"<u{header.id_bytes}", self.size, HEADER)
        at = header.index()
        self.starts = self._section("<i8", self.count + 1, at)
        self.ids = self._section(np.uint8, 16 * self.count, at := at + 8 * (self.count + 1)).reshape(-1, 16)
        self.source_of = self._section("<u4", self.count, at := at + 16 * self.count)
        self.sources = self._names(self._map[at + 4 * self.count :])
        self._check_index()

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document, (count,) int64."""
        return np.diff(self.starts)

    def tokens(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The tokens of a range, whatever documents they are of."""
        return self._tokens[start:stop]

    def document(self, number: int) -> Document:
        """The document with this number, from 0."""
        source = self.sources[int(self.source_of[number])]
        tokens = self._tokens[self.starts[number] : self.starts[number + 1]]
        return Document(self.ids[number].tobytes(), source, tokens)

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many documents and tokens are from each source."""
        size = len(self.sources)
        documents = np.bincount(self.source_of, minlength=size)
        tokens = np.zeros(size, np.int64)
        np.add.at(tokens, self.source_of, self.lengths)
        return {n: (int(documents[k]), int(tokens[k])) for k, n in enumerate(self.sources)}

    def verify(self) -> None:
        """Read every id: DataError if one was changed since the file was written."""
        total = hashlib.blake2b(digest_size=32)
        for start in range(0, self.size, _BLOCK):
            part = self._tokens[start : start + _BLOCK]
            total.update(part.tobytes())
            below = int(part.max(initial=0)) < self.header.vocabulary
            need(below, f"{self.path}: an id is outside of its vocabulary", error=DataError)
        same = total.digest() == self.header.ids_sum
        need(same, f"{self.path}: the checksum of its ids is wrong", "write it again", DataError)

    def _section(self, dtype: Any, count: int, at: int) -> np.ndarray:
        return np.frombuffer(self._map, dtype, count, at)

    def _names(self, data: bytes) -> tuple[str, ...]:
        try:
            *names, rest = data.decode().split("\0")
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: the name of a source is not UTF-8") from None
        good = rest == "" and len(names) == self.header.sources == len(set(names))
        need(good, f"{self.path}: it has not the {self.header.sources:,} names it counts", error=DataError)
        return tuple(names)

    def _check_index(self) -> None:
        """A checksum tells damage, not malice: no start may lead outside."""
        starts = self.starts
        rising = bool((starts[1:] > starts[:-1]).all())
        inside = rising and starts[0] == 0 and starts[-1] == self.size
        need(inside, f"{self.path}: its documents overlap, are empty or leave gaps", error=DataError)
        named = self.count == 0 or int(self.source_of.max()) < len(self.sources)
        need(named, f"{self.path}: a document is from a source without a name", error=DataError)


def _sum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
