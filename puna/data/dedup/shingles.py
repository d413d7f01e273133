"""Texts as numbers, over the bytes of an Arrow column: hashes of words, of runs of words, of lines.

A word is a run of letters and digits in any case; punctuation does not count. In scripts that put no spaces
between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every character is a word. Hashes are polynomials
of the bytes modulo 2^64, well mixed: differences of prefix sums, so all words of a column are hashed at once.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.dedup.order import mix

BLOCK_BYTES = 1 << 22  # of text at a time: bounds the memory of the temporaries
_BASE = np.uint64(0x9E3779B97F4A7C15)
_LETTER = np.zeros(256, bool)
_LETTER[[*range(48, 58), *range(65, 91), *range(97, 123), *range(128, 256)]] = True
_LOWER = np.arange(256, dtype=np.uint8)
_LOWER[65:91] += 32
_SPACELESS = np.zeros(1 << 16, bool)  # by the first two bytes of a character of three
for _lead in range(0xE3, 0xEA):  # kana, Chinese characters
    _SPACELESS[_lead << 8 : (_lead + 1) << 8] = True
for _lead, _first, _last in ((0xE0, 0xB8, 0xBB), (0xE1, 0x80, 0x82), (0xE1, 0x9E, 0x9F)):
    _SPACELESS[(_lead << 8) + _first : (_lead << 8) + _last + 1] = True
_WIDE = 0xEFBC
_WIDE_LETTER = np.isin(np.arange(256), [*range(0x90, 0x9A), *range(0xA1, 0xBB)])
_POINTS = [0xE280, 0xE281, 0xE380, _WIDE]  # quotation marks and dashes, CJK stops, full-width points


def blocks(
    data: np.ndarray, offsets: np.ndarray, most: int = BLOCK_BYTES
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(first row, bytes, offsets from 0) of consecutive rows, each of `most` bytes or of one larger row."""
    row, rows = 0, len(offsets) - 1
    while row < rows:
        stop = max(row + 1, int(np.searchsorted(offsets, offsets[row] + most, "right")) - 1)
        yield row, data[offsets[row] : offsets[stop]], offsets[row : stop + 1] - offsets[row]
        row = stop


def words(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first byte, end, row) of every word; a word never crosses from one row to the next."""
    letter, opens = _letters(data)
    opens = np.append(opens, True)
    opens[offsets] = True
    before, after = np.append(False, letter[:-1]), np.append(letter[1:], False)
    starts = np.flatnonzero(letter & (~before | opens[:-1]))
    ends = np.flatnonzero(letter & (~after | opens[1:])) + 1
    return starts, ends, np.searchsorted(offsets, starts, "right") - 1


def _letters(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each byte: is it of a word, and does a word begin here even where one stood before?"""
    letter, opens = _LETTER[data], np.zeros(len(data), bool)
    latin = np.flatnonzero(data[:-1] == 0xC2)  # non-breaking space, guillemets, section sign
    letter[latin] = letter[latin + 1] = False
    three = np.flatnonzero((data[:-2] & 0xF0) == 0xE0)
    pair = (data[three].astype(np.int64) << 8) | data[three + 1]
    wide = (pair == _WIDE) & _WIDE_LETTER[data[three + 2]]
    points = three[np.isin(pair, _POINTS) & ~wide]
    alone = three[_SPACELESS[pair]]
    for step in range(3):
        letter[points + step] = False
    opens[alone] = True
    opens[alone[alone + 3 < len(data)] + 3] = True
    return letter, opens


def span_hashes(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, cased: bool = False) -> np.ndarray:
    """(spans,) uint64: the hash of data[start:end] of each; unless `cased`, A is a (in ASCII)."""
    powers = np.full(len(data) + 1, _BASE, np.uint64)
    powers[0] = 1
    np.multiply.accumulate(powers, out=powers)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(
        ((data if cased else _LOWER[data]).astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:]
    )
    home = np.uint64(pow(int(_BASE), -len(data), 2**64))  # a span hashes alike wherever it stands
    return mix((sums[ends] - sums[starts]) * powers[len(data) - starts] * home)


def runs(hashes: np.ndarray, rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(hash, first word) of every `size` neighbouring words that stand in one row."""
    count = max(len(hashes) - size + 1, 0)
    x = hashes[:count].copy()
    for i in range(1, size):
        x *= np.uint64(0x0000700000000C0F)
        x += hashes[i : count + i]
    inside = rows[:count] == rows[size - 1 : count + size - 1]
    return mix(x[inside]), np.flatnonzero(inside)


def cut_out(data: np.ndarray, offsets: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
    """The texts of the rows without the bytes of the spans, which are sorted and do not overlap."""
    turns = np.zeros(len(data) + 1, np.int8)
    turns[starts] += 1
    turns[stops] -= 1
    kept = np.cumsum(turns[:-1]) == 0
    ends = np.append(0, np.cumsum(kept))[offsets]
    left = data[kept].tobytes()
    return [left[a:b].decode() for a, b in pairwise(ends)]


def of_size(table: pa.Table, longest: int) -> pa.Array:
    """(rows,) bool: is the text no longer than so many bytes? The work takes 40 times its size in memory."""
    return pc.less_equal(pc.binary_length(table["text"]), longest).combine_chunks()


def with_texts(table: pa.Table, texts: list[str], where: pa.Array) -> pa.Table:
    """The rows with these texts in place of theirs, where `where` is true."""
    at = table.schema.get_field_index("text")
    new = pc.replace_with_mask(table["text"].combine_chunks(), where, pa.array(texts, pa.large_string()))
    return table.set_column(at, table.schema.field(at), new)
