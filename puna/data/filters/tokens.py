"""The words of text as 64-bit hashes, and runs of them.

Words are runs of letters and digits; a character of a script that is written without spaces is a word of its
own. `words` is the definition whose place a native kernel may take.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from puna.data.filters.hashing import BASE, mixed, range_hashes, values

SPACED, ALONE = 1, 2  # a byte of a word; of a character that is a word
TILE = 1 << 20  # bytes in which characters are looked for at a time


@dataclass(frozen=True)
class Words:
    """The words of rows of text: row i has those from first[i] to first[i + 1]."""

    starts: np.ndarray  # (words,) int64, places in the buffer
    ends: np.ndarray
    hashes: np.ndarray  # (words,) uint64
    first: np.ndarray  # (rows + 1,) int64

    def rows(self) -> np.ndarray:
        """(words,) the row of each word."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    def ngrams(self, n: int, at: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(hashes of runs of n words within their row, where they begin), of all or of those at `at`."""
        places = np.arange(len(self.hashes)) if at is None else at
        places = places[places + n <= self.first[np.searchsorted(self.first, places, "right")]]
        total = np.zeros(len(places), np.uint64)
        for i in range(n):
            total = total * np.uint64(BASE) + self.hashes[places + i]
        return mixed(total + np.uint64(n)), places

    def sums(self, of_word: np.ndarray) -> np.ndarray:
        """(rows,) the sum over each row's words."""
        return np.bincount(self.rows(), of_word, len(self.first) - 1)


def words(data: np.ndarray, offsets: np.ndarray, fold_digits: bool = False) -> Words:
    """The words of each row data[offsets[i]:offsets[i + 1]] of UTF-8, letters A to Z lowered."""
    begin, end = int(offsets[0]), int(offsets[-1])
    data, offsets = data[begin:end], offsets - begin
    kind, leads = _kinds(data)
    edge = np.zeros(len(data) + 1, bool)
    edge[1:-1] = (kind[1:] > 0) != (kind[:-1] > 0)
    edge[offsets] = True  # a word ends with its document
    edge[:-1] |= leads
    edge[1:-1] |= (kind[:-1] == ALONE) & (kind[1:] != ALONE)
    places = np.flatnonzero(edge)
    is_word = kind[places[:-1]] > 0 if len(data) else np.zeros(0, bool)
    starts, ends = places[:-1][is_word], places[1:][is_word]
    hashes = range_hashes(data, starts, ends, values(True, fold_digits))
    return Words(starts + begin, ends + begin, hashes, np.searchsorted(starts, offsets))


def _kinds(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SPACED, ALONE or 0 of each byte, whether a character that stands alone begins there)."""
    table = np.zeros(256, np.uint8)
    table[[*range(48, 58), *range(65, 91), *range(97, 123), *range(128, 256)]] = SPACED
    kind, leads = table[data], np.zeros(len(data), bool)
    for at, code in _characters(data):
        kinds = _kinds_of(code)
        length = 1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)
        leads[at[kinds == ALONE]] = True
        for i in range(4):
            part = (kinds != SPACED) & (length > i)
            kind[at[part] + i] = kinds[part]
    return kind, leads


def _characters(data: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(places, code points) of all characters beyond ASCII, a tile at a time."""
    for start in range(0, len(data), TILE):
        at = np.flatnonzero(data[start : start + TILE] >= 0xC0) + start
        if len(at):
            after = [data[np.minimum(at + i, len(data) - 1)].astype(np.uint32) & 0x3F for i in (1, 2, 3)]
            lead = data[at].astype(np.uint32)
            two = (lead & 0x1F) << 6 | after[0]
            three = (lead & 0xF) << 12 | after[0] << 6 | after[1]
            four = (lead & 7) << 18 | after[0] << 12 | after[1] << 6 | after[2]
            yield at, np.where(lead < 0xE0, two, np.where(lead < 0xF0, three, four))


# Kinds by ranges of code points, coarse but our own, so that no library's Unicode version changes a hash.
_RANGES = (
    (0x80, 0xBF, 0),  # Latin-1 signs
    (0x0E00, 0x0EFF, ALONE),  # Thai, Lao
    (0x1000, 0x109F, ALONE),  # Myanmar
    (0x1780, 0x17FF, ALONE),  # Khmer
    (0x2000, 0x2BFF, 0),  # punctuation, arrows, mathematical signs, boxes
    (0x3000, 0x303F, 0),  # CJK punctuation
    (0x3040, 0x30FF, ALONE),  # kana
    (0x31F0, 0x31FF, ALONE),
    (0x3400, 0x9FFF, ALONE),  # Han
    (0xF900, 0xFAFF, ALONE),
    (0xFE30, 0xFE4F, 0),
    (0xFF00, 0xFF0F, 0),  # full-width signs
    (0xFF1A, 0xFF20, 0),
    (0xFF3B, 0xFF40, 0),
    (0xFF5B, 0xFF65, 0),
    (0x1F000, 0x1FAFF, 0),  # emoji
    (0x20000, 0x3FFFF, ALONE),  # Han
)


def _kinds_of(code: np.ndarray) -> np.ndarray:
    firsts, lasts, kinds = (np.array(part) for part in zip(*_RANGES, strict=True))
    at = np.searchsorted(firsts, code, "right") - 1
    return np.where((at >= 0) & (code <= lasts[at]), kinds[at], SPACED).astype(np.uint8)
