"""The words of texts as 64-bit hashes, runs of them, and whether a hash is a known one.

What a word is depends on what is asked; text_reference.py defines each meaning:
    plain         letters, digits and marks, and an apostrophe between two letters; in any case
    digits_alike  the same, and every digit counts as 0: a new time stamp makes no new word
    normal        case, accents, width, ligatures and whatever stands between words hide nothing
    signs         the same, and runs of punctuation, of symbols and line ends are words too: the shape of code
In scripts written without spaces every character is a word.
"""

from typing import Literal, NamedTuple

import numpy as np

from puna.errors import DataError, need
from puna.kernels.text import checked, choose

Meaning = Literal["plain", "digits_alike", "normal", "signs"]


class Words(NamedTuple):
    """The words of rows of text, one row after the other; starts and ends are places in `data`."""

    hashes: np.ndarray  # (words,) uint64, of the folded characters
    starts: np.ndarray  # (words,) int64
    ends: np.ndarray  # (words,) int64
    first: np.ndarray  # (rows + 1,) int64: row i has the words from first[i] to first[i + 1]

    def rows(self) -> np.ndarray:
        """(words,) the row of each word."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


class Runs(NamedTuple):
    """Every n words that stand side by side in one row; none where a row has fewer."""

    hashes: np.ndarray  # (runs,) uint64
    words: np.ndarray  # (runs,) int64: the word that each begins with
    offsets: np.ndarray  # (rows + 1,) int64: row i has the runs from offsets[i] to offsets[i + 1]


def words(data: np.ndarray, offsets: np.ndarray, meaning: Meaning = "plain") -> Words:
    return Words(*choose()[0].words(*checked(data, offsets), meaning))


def runs(hashes: np.ndarray, first: np.ndarray, n: int) -> Runs:
    """The runs of words with these hashes; row i has those from first[i] to first[i + 1]."""
    need(n >= 1, f"runs of {n} words cannot be", error=DataError)
    return Runs(*choose()[0].runs(*checked(hashes, first, np.uint64), n))


def said_before(hashes: np.ndarray, first: np.ndarray, n: int, times: int = 1) -> np.ndarray:
    """(words,) bool: does a word stand in a run of n words that its row had so many times earlier?"""
    need(n >= 1 and times >= 1, f"{times} times a run of {n} words cannot be", error=DataError)
    return choose()[0].said_before(*checked(hashes, first, np.uint64), n, times).view(bool)


def sieve(known: np.ndarray) -> np.ndarray:
    """Bits that tell of most hashes that they are none of the known ones, 16 or more for each of those."""
    bits = max(3, int(16 * len(known) - 1).bit_length())
    marks = np.zeros(1 << bits, bool)
    marks[known >> np.uint64(64 - bits)] = True
    return np.packbits(marks, bitorder="little")


def lookup(
    hashes: np.ndarray, known: np.ndarray, bits: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(which hashes are known ones, their places in `known`); known ones rise, `bits` is their sieve."""
    hashes, known = np.ascontiguousarray(hashes, np.uint64), np.ascontiguousarray(known, np.uint64)
    bits = np.full(1, 255, np.uint8) if bits is None else bits
    return choose()[0].lookup(hashes, known, bits)


def known_runs(
    hashes: np.ndarray, first: np.ndarray, n: int, known: np.ndarray, bits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the word that each run of n words begins with that is a known one, its place in `known`)."""
    need(n >= 1, f"runs of {n} words cannot be", error=DataError)
    return choose()[0].known_runs(*checked(hashes, first, np.uint64), n, known, bits)
