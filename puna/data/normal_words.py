"""Words as numbers: every way of writing a text that means the same to a reader gives the same hashes.

Case, accents, width, ligatures, invisible characters and all that stands between words make no difference.
Each character is folded by itself, so a word knows where it stood in the text it came from. Scripts written
without spaces have a word for each character. With `symbols`, runs of punctuation and line ends are words
too, which is how a classifier sees the shape of code and of formulas.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

BREAK, LETTER, ALONE, SYMBOL = range(4)  # what a folded character is to its neighbours
_PIECE = 1 << 16  # characters worked on at once: what the cache holds; bounds memory whatever the text
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_POINTS = 0x110000
_SPACELESS = (  # ranges of code points
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # radicals, kana, bopomofo
    (0x31A0, 0x9FFF),  # ideographs
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True)
class Words:
    """The words of some texts, those of one text after those of the one before."""

    hashes: np.ndarray  # (words,) uint64
    begins: np.ndarray  # (words,) int64; where the word begins in its text, in characters
    ends: np.ndarray  # (words,) int64
    offsets: np.ndarray  # (texts + 1,) int64: the words of text i are offsets[i] : offsets[i + 1]


def normal_words(texts: Sequence[str], symbols: bool = False) -> Words:
    """The words of each text, folded and hashed."""
    counts = np.zeros(len(texts), np.int64)
    found: list[tuple[np.ndarray, ...]] = [
        (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    ]
    for group in _groups(texts):
        hashes, begins, ends = _hash(np.frombuffer(_joined(group), np.uint32), symbols)
        lengths = np.array([len(piece) + 1 for _, _, piece in group])
        firsts = np.concatenate(([0], np.cumsum(lengths)))
        owner = np.searchsorted(firsts, begins, side="right") - 1
        shift = np.array([start for _, start, _ in group]) - firsts[:-1]
        found.append((hashes, begins + shift[owner], ends + shift[owner]))
        np.add.at(counts, [row for row, _, _ in group], np.bincount(owner, minlength=len(group)))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return Words(columns[0], columns[1], columns[2], np.concatenate(([0], np.cumsum(counts))))


def mix(values: np.ndarray) -> np.ndarray:
    """Each uint64 stirred so that every bit of it depends on every bit."""
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x81DADEF4BC2DD44D)
    return values ^ (values >> np.uint64(33))


def runs_of(hashes: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, offsets) of every `length` neighbours of one text, text by text, from those of its words."""
    count = max(len(hashes) - length + 1, 0)
    run = np.zeros(count, np.uint64)
    for place in range(length):
        run = run * np.uint64(_BASE) + hashes[place : place + count]
    places, cut = run_places(offsets, length)
    return mix(run[places]), cut


def run_places(offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(places, offsets) of the runs that lie within one text: the word each begins with, text by text."""
    per_text = np.maximum(np.diff(offsets) - length + 1, 0)
    cut = np.concatenate(([0], np.cumsum(per_text)))
    return np.arange(cut[-1]) + np.repeat(offsets[:-1] - cut[:-1], per_text), cut


def _groups(texts: Sequence[str]) -> Iterator[list[tuple[int, int, str]]]:
    """Pieces (text number, where it starts there, characters), as many as are worked on at once."""
    group: list[tuple[int, int, str]] = []
    held = 0
    for row, text in enumerate(texts):
        start = 0
        while start < len(text):
            end = _end_of_piece(text, start)
            if held + end - start > _PIECE and group:
                yield group
                group, held = [], 0
            group.append((row, start, text[start:end]))
            held, start = held + end - start, end
    if group:
        yield group


def _end_of_piece(text: str, start: int) -> int:
    """Where to cut: at a space, if there is one among the last thousand characters."""
    end = start + _PIECE
    if end >= len(text):
        return len(text)
    tail = max(start, end - 1000)
    space = max(text.rfind(" ", tail, end), text.rfind("\n", tail, end))
    return space + 1 if space >= 0 else end


def _joined(group: list[tuple[int, int, str]]) -> bytes:
    return ("\0".join(piece for _, _, piece in group) + "\0").encode("utf-32-le", "surrogatepass")


def _hash(points: np.ndarray, symbols: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hashes, begins, ends) of the words in code points that end in a break."""
    folded, source = _fold(points)
    kinds = _tables()[3][folded]
    inside = kinds != BREAK if symbols else (kinds == LETTER) | (kinds == ALONE)
    before = np.concatenate(([BREAK], kinds[:-1]))
    starts = np.flatnonzero(inside & ((kinds != before) | (kinds == ALONE)))
    after = np.concatenate((kinds[1:], [BREAK]))
    stops = np.flatnonzero(inside & ((kinds != after) | (kinds == ALONE))) + 1
    powers = np.full(len(folded), _BASE, np.uint64)
    np.multiply.accumulate(powers, out=powers)
    sums = np.concatenate(([np.uint64(0)], np.cumsum((folded + np.uint64(1)) * powers, dtype=np.uint64)))
    unshift = np.full(len(folded) + 1, _INVERSE, np.uint64)
    unshift[0] = 1
    np.multiply.accumulate(unshift, out=unshift)
    hashes = mix((sums[stops] - sums[starts]) * unshift[starts])
    return (hashes, starts, stops) if source is None else (hashes, source[starts], source[stops - 1] + 1)


def _fold(points: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The folded code points and, unless each gave exactly one, the place each came from."""
    widths, places, pool, _ = _tables()
    width = widths[points]
    if (width == 1).all():
        return pool[places[points]], None
    source = np.repeat(np.arange(len(points)), width)
    first = np.cumsum(width, dtype=np.int64) - width
    return pool[places[points[source]] + np.arange(len(source)) - first[source]], source


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(how many characters a code point folds to, where they begin in the pool, the pool, kinds)."""
    widths, places = np.ones(_POINTS, np.uint8), np.arange(_POINTS, dtype=np.uint32)
    pool, kinds = [np.arange(_POINTS, dtype=np.uint32)], np.full(_POINTS, BREAK, np.uint8)
    used = _POINTS
    for point in range(0x20000):  # planes 0 and 1; above them are only ideographs, tags and private use
        character = chr(point)
        kinds[point] = _kind(unicodedata.category(character))
        folded = [ord(c) for c in _folded(character)]
        if folded != [point]:
            widths[point], places[point] = len(folded), used
            pool.append(np.array(folded, np.uint32))
            used += len(folded)
    for low, high in _SPACELESS:
        letters = kinds[low : high + 1]
        letters[letters == LETTER] = ALONE
    kinds[0x20000:0x40000] = ALONE
    kinds[ord("\n")] = SYMBOL
    widths[0xE0000:0xE0200] = 0  # tags and variation selectors: nobody sees them
    return widths, places, np.concatenate(pool), kinds


def _folded(character: str) -> str:
    """What a character means: no case, accents, width or ligature; "" for what nobody sees."""
    if unicodedata.category(character) == "Cf":
        return ""
    whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(c for c in whole if not unicodedata.combining(c))


def _kind(category: str) -> int:
    if category[0] in "LNM":
        return LETTER
    return SYMBOL if category[0] in "PS" else BREAK
