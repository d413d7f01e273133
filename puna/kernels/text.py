"""The hot loops of text curation over a column of texts: words, signatures, counters, lines, n-grams.

Every function takes the pair of puna.data.document.text_buffers: `data` (bytes,) uint8 and `offsets`
(rows + 1,) int64, row i being data[offsets[i] : offsets[i + 1]] in UTF-8. `choose` says which twin answers:
the native one, or the definitions in text_reference.py, which give the same and take a hundred times as long.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from puna import log
from puna.errors import DataError, need

REVISION = 2  # of what the native twins answer; the same number stands in cpu/module.cpp
REPEATS = (
    *(
        f"top_{n}_gram_characters" for n in (2, 3, 4)
    ),  # of all places of the most frequent one, spaces counted
    *(f"duplicate_{n}_gram_characters" for n in (5, 6, 7, 8, 9, 10)),  # that stood there before
)
COUNTERS = (
    "characters",
    "words",
    "word_characters",
    "alphabetic_words",  # with at least one letter
    "symbols",  # runs of the same one, but for those that join two words
    "hashes",  # number signs
    "ellipses",
    "stop_words",  # different ones of the list
    "sentences",
    "newlines",
    "lines",  # here and below: that are not blank, without the white space around them
    "line_characters",
    "bullet_lines",
    "ellipsis_lines",
    "terminal_lines",  # whose last character ends a sentence
    "short_lines",
    "duplicate_lines",
    "duplicate_line_characters",
    "paragraphs",  # between blank lines
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    *REPEATS,
)
TERMINAL, JAVASCRIPT, LOREM_IPSUM, CURLY_BRACKET, NAMES_POLICY = 1, 2, 4, 8, 16  # bits of LineMarks.marks


class Words(NamedTuple):
    """Entry i of document d has offsets[d] <= i < offsets[d + 1]; starts and ends are places in `data`."""

    hashes: np.ndarray  # (words,) uint64, of the folded characters
    lengths: np.ndarray  # (words,) int32, in characters
    starts: np.ndarray  # (words,) int64
    ends: np.ndarray  # (words,) int64
    offsets: np.ndarray  # (rows + 1,) int64


class Ngrams(NamedTuple):
    hashes: np.ndarray  # (n-grams,) uint64
    starts: np.ndarray  # (n-grams,) int64, of the first word
    ends: np.ndarray  # (n-grams,) int64, of the last
    offsets: np.ndarray  # (rows + 1,) int64


class Lines(NamedTuple):
    """Every line, blank ones too: what stands between line feeds."""

    hashes: np.ndarray  # (lines,) uint64, without white space around it; 0 for a blank line
    lengths: np.ndarray  # (lines,) int32, in characters, likewise; 0 for a blank line
    starts: np.ndarray  # (lines,) int64, of the whole line
    ends: np.ndarray  # (lines,) int64, where its line feed or the text's end is
    offsets: np.ndarray  # (rows + 1,) int64


class LineMarks(NamedTuple):
    """Lines that are not blank, without the white space around them."""

    pieces: np.ndarray  # (lines,) int32, between white space
    longest: np.ndarray  # (lines,) int32, characters of the longest piece
    sentences: np.ndarray  # (lines,) int32
    marks: np.ndarray  # (lines,) uint8: TERMINAL (one of . ? ! " ' but not ...), JAVASCRIPT, ...
    starts: np.ndarray  # (lines,) int64
    ends: np.ndarray  # (lines,) int64
    offsets: np.ndarray  # (rows + 1,) int64


def works_here() -> str | None:
    """Why the native twins are not used, or None."""
    try:
        native = import_module("puna.kernels._native")
    except ImportError as problem:
        return f"the native extension is not built ({problem}); to build it, pip install puna with a compiler"
    if native.REVISION != REVISION:
        return "the native extension was built from other sources; to build it anew, pip install puna again"
    return None


@cache
def choose() -> tuple[Any, str]:
    """The module whose twins answer here, and why it is that one."""
    reason = works_here()
    name = "text_reference" if reason else "_native"
    log.event("kernels", chosen=name, reason=reason)
    return import_module(f"puna.kernels.{name}"), reason or "native"


def words(data: np.ndarray, offsets: np.ndarray) -> Words:
    return Words(*choose()[0].words(*_checked(data, offsets)))


def ngrams(data: np.ndarray, offsets: np.ndarray, n: int = 13) -> Ngrams:
    """Hashes of every n words that stand side by side; none where a document has fewer."""
    need(n >= 1, f"n-grams of {n} words cannot be", error=DataError)
    return Ngrams(*choose()[0].ngrams(*_checked(data, offsets), n))


def minhash(data: np.ndarray, offsets: np.ndarray, count: int = 112, n: int = 5, seed: int = 1) -> np.ndarray:
    """Signatures (rows, count) uint32: the share two have in common estimates how alike their shingles are.

    Shingles are n words side by side, or all words of a shorter document; without words it is all ones.
    """
    need(count >= 1 and n >= 1, f"{count} permutations of {n}-word shingles cannot be", error=DataError)
    return choose()[0].minhash(*_checked(data, offsets), *permutations(count, seed), n)


def permutations(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd multipliers and summands (count,) uint32 that make `count` permutations of 32-bit numbers."""
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    h = np.array([(seed + (i + 1) * golden) & mask for i in range(2 * count)], np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ (h >> np.uint64(shift))) * np.uint64(factor)
    h = (h ^ (h >> np.uint64(31))) >> np.uint64(32)
    return h[::2].astype(np.uint32) | np.uint32(1), h[1::2].astype(np.uint32)


def line_hashes(data: np.ndarray, offsets: np.ndarray) -> Lines:
    return Lines(*choose()[0].line_hashes(*_checked(data, offsets)))


def line_marks(data: np.ndarray, offsets: np.ndarray) -> LineMarks:
    return LineMarks(*choose()[0].line_marks(*_checked(data, offsets)))


def counters(
    data: np.ndarray,
    offsets: np.ndarray,
    stop_words: Sequence[str] = (),
    short_line: int = 30,
    repeats: bool = True,
) -> dict[str, np.ndarray]:
    """Counts (rows,) int64 under each name of COUNTERS; a line is short up to `short_line` characters.

    Without `repeats` the names of REPEATS, half of the work, are left out.
    """
    wanted = [word.encode() for word in stop_words]
    places = np.cumsum([0, *map(len, wanted)], dtype=np.int64)
    listed = words(np.frombuffer(b"".join(wanted), np.uint8), places)
    single = len(listed.hashes) == len(wanted) == len(set(listed.hashes.tolist()))
    need(single, f"stop words {', '.join(stop_words)}: each must be one word, once", error=DataError)
    counts = choose()[0].counters(*_checked(data, offsets), listed.hashes, short_line, repeats)
    return dict(zip(COUNTERS if repeats else COUNTERS[: -len(REPEATS)], counts.T, strict=False))


def join_lines(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(data, offsets) of new texts: number i is the lines offsets[i] to offsets[i + 1], with line feeds."""
    data = np.ascontiguousarray(data, np.uint8)
    starts, ends = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(ends, np.int64)
    good = len(starts) == len(ends) and (starts >= 0).all() and (starts <= ends).all()
    need(good and (ends <= len(data)).all(), "lines leave the bytes they are of", error=DataError)
    _, offsets = _checked(np.zeros(len(starts), np.uint8), offsets)
    return choose()[0].join_lines(data, starts, ends, offsets)


def _checked(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair as the twins want it; offsets that leave the data are an error."""
    data, offsets = np.ascontiguousarray(data, np.uint8), np.ascontiguousarray(offsets, np.int64)
    inside = len(offsets) > 0 and offsets[0] >= 0 and offsets[-1] <= len(data)
    need(inside and (np.diff(offsets) >= 0).all(), "the offsets of a column leave its bytes", error=DataError)
    return data, offsets
