"""A folder of token shards as one long row of tokens, read anywhere without reading what is before.

A trainer computes which stretch of it belongs to a step and a rank; nothing has to be remembered.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from puna.data.shards import SUFFIX, Document, Header, Shard, shard_name
from puna.errors import DataError, need
from puna.tokenizer.tokenizer import Tokenizer

MOST_OPEN = 64  # shards mapped at a time: each takes a file handle


@dataclass(frozen=True)
class Window:
    """A stretch of tokens, and where each one stands. All (T,)."""

    tokens: np.ndarray  # uint16 or uint32
    documents: np.ndarray  # int64: the number of its document among all
    positions: np.ndarray  # int64: its place in that document, which may have begun before the stretch


class ShardSet:
    """`size` tokens of `count` documents, below `vocabulary`, in the order of the shards' numbers.

    `tokenizer` is the beginning of the fingerprint of the one that made them, or zeros; `content` a hash of
    all tokens, as their headers say it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        found = sorted(path.name for path in self.folder.glob(f"*{SUFFIX}"))
        need(found, f"{folder}: no token shards here", "the folder that `puna data run` wrote", DataError)
        wanted = [shard_name(n) for n in range(len(found))]
        missing = next((name for name in wanted if name not in set(found)), None)
        need(missing is None, f"{folder}: {missing} is missing among {len(found):,} shards", error=DataError)
        headers = [Header.read(self.folder / name) for name in wanted]
        self.vocabulary, self.tokenizer = headers[0].vocabulary, headers[0].tokenizer
        same = (self.vocabulary, self.tokenizer)
        odd = [n for n, h in zip(wanted, headers, strict=True) if (h.vocabulary, h.tokenizer) != same]
        need(not odd, f"{folder}: {odd[:1]} has another vocabulary than {wanted[0]}", error=DataError)
        self._token_starts = np.cumsum([0] + [header.tokens for header in headers])
        self._document_starts = np.cumsum([0] + [header.documents for header in headers])
        self.size, self.count = int(self._token_starts[-1]), int(self._document_starts[-1])
        self.content = hashlib.sha256(b"".join(header.ids_sum for header in headers)).hexdigest()
        self._open: dict[int, Shard] = {}

    def __len__(self) -> int:
        """How many shards there are."""
        return len(self._token_starts) - 1

    def shard(self, number: int) -> Shard:
        """One shard, mapped; the ones not used for longest are let go."""
        path = self.folder / shard_name(number)
        shard = self._open.pop(number, None) or Shard(path)
        # what is cut off below a map ends the process when it is read, without a word
        same = path.is_file() and path.stat().st_size == shard.header.file_bytes()
        need(same, f"{path}: it was changed while it was read", "put it back, then run again", DataError)
        self._open[number] = shard
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        return shard

    def tokens(self, start: int, stop: int) -> np.ndarray:
        """The tokens start to stop of all; a view where they are in one shard."""
        parts = [shard.tokens(a, b) for _, shard, a, b in self._pieces(start, stop)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.uint32)])

    def window(self, start: int, stop: int) -> Window:
        """The same tokens, with the document and the position of each."""
        documents, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, shard, a, b in self._pieces(start, stop):
            places = np.arange(a, b)
            inside = np.searchsorted(shard.starts, places, side="right") - 1
            documents.append(inside + self._document_starts[number])
            positions.append(places - shard.starts[inside])
        return Window(self.tokens(start, stop), np.concatenate(documents), np.concatenate(positions))

    def document(self, number: int) -> Document:
        """The document with this number among all, from 0."""
        need(0 <= number < self.count, f"{self.folder}: no document {number:,}", error=DataError)
        at = int(np.searchsorted(self._document_starts, number, side="right")) - 1
        return self.shard(at).document(number - int(self._document_starts[at]))

    def made_by(self, tokenizer: Tokenizer) -> None:
        """DataError if these ids are another vocabulary's."""
        same = self.vocabulary == tokenizer.size and self.tokenizer.hex() == tokenizer.fingerprint()[:16]
        need(
            same,
            f"{self.folder}: its ids are not those of {tokenizer}",
            "the tokenizer of that run",
            DataError,
        )

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many documents and tokens are from each source."""
        total: dict[str, tuple[int, int]] = {}
        for number in range(len(self)):
            for name, (documents, tokens) in self.shard(number).counts().items():
                before = total.get(name, (0, 0))
                total[name] = before[0] + documents, before[1] + tokens
        return dict(sorted(total.items()))

    def verify(self) -> None:
        """Read every id of every shard; DataError at the first that is not what was written."""
        for number in range(len(self)):
            self.shard(number).verify()

    def _pieces(self, start: int, stop: int) -> list[tuple[int, Shard, int, int]]:
        """(number, shard, its own start, its own stop) of each shard that has a part of this range."""
        inside = 0 <= start <= stop <= self.size
        need(inside, f"{self.folder}: tokens {start:,} to {stop:,} of {self.size:,}", error=DataError)
        pieces, begins = [], self._token_starts
        number = int(np.searchsorted(begins, start, side="right")) - 1
        while start < stop:
            end = min(stop, int(begins[number + 1]))
            first = int(begins[number])
            if end > start:
                pieces.append((number, self.shard(number), start - first, end - first))
            start, number = end, number + 1
        return pieces
