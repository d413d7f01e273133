"""Is this a copy, or another page from the same template? A page about something else says so in few words.

Two pages of a reference or two half-translated manuals can agree in all but a name. So a copy must bring
almost no word that the kept document never says, no clause, no number with a unit, and open with no name
that the kept one does not open with. Other numbers are not looked at (versions, dates, hashes), nor are
lines about copyright: who holds it is not what a text says.
"""

import re
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from puna.data.dedup.order import mix
from puna.data.document import text_buffers
from puna.kernels.alike import sets, shared
from puna.kernels.words import lookup, runs, words
from puna.settings import Settings

_TOGETHER = 64  # pairs whose words are held at a time
_YEAR = re.compile(rb" ?[12]\d{3}")
_LINE = 200  # bytes; a longer line is not about copyright alone
_JOINS = np.isin(np.arange(256), list(b"._:"))  # what stands between the parts of one name
_TAIL = np.isin(np.arange(256), list(b"+#!=<>"))  # and ends it: operator< is not operator!=
_DIGIT = np.isin(np.arange(256), list(b"0123456789"))


class Subject(Settings):
    """How much of its own a copy may say [docs/log.md: five rounds of 300 judged pairs]."""

    own: float = Field(0.01, ge=0, le=1)  # of its different words, the share that the kept one never says
    own_words: int = Field(5, ge=0)  # and never more than so many: a sentence of another language
    opening: int = Field(10, ge=0)  # names that it opens with; the kept one must have each
    within: int = Field(100, ge=0)  # among so many names that itself opens with
    passage: int = Field(6, ge=0)  # runs of three words side by side, all its own: four new words together


class _Said(NamedTuple):
    """What texts say: hashes of words and of names, row after row; row i has first[i] to first[i + 1]."""

    words: np.ndarray
    first: np.ndarray
    telling: np.ndarray  # bool for each word: does it tell of the subject?
    amounts: np.ndarray  # bool for each word: a number with its unit, as in 780MB
    names: np.ndarray  # words joined by dots, colons or underscores are one name
    first_name: np.ndarray
    naming: np.ndarray  # bool for each name


def _said(texts: pa.Table) -> _Said:
    data, offsets = text_buffers(texts)
    data, offsets = data[offsets[0] : offsets[-1]], offsets - offsets[0]
    found = words(data, offsets)
    free = ~_held(data, offsets, found.starts)
    numbers = np.append(0, np.cumsum(_DIGIT[data]))
    digits = numbers[found.ends] - numbers[found.starts]
    letters = found.ends - found.starts - digits  # bytes
    joined = _joined(data, found.starts, found.ends)
    joined[found.first[:-1][np.diff(found.first) > 0]] = False  # a text begins a name
    begun = np.flatnonzero(~joined)
    part = np.arange(len(joined)) - np.repeat(begun, np.diff(np.append(begun, len(joined))))
    parts = mix(found.hashes + part.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    names, digits_each, letters_each = (_sums(each, begun) for each in (parts, digits, letters))
    ends = found.ends[np.append(begun[1:], len(joined)) - 1] if len(begun) else begun
    names = mix(names ^ _tails(data, ends, offsets[np.searchsorted(offsets, ends, "left")]))
    return _Said(
        found.hashes,
        found.first,
        free & _is_word(letters, digits),
        free & _amount(data, found.starts, digits, letters),
        names,
        np.searchsorted(begun, found.first),
        free[begun] & _is_word(letters_each, digits_each),
    )


def _longest(marked: np.ndarray) -> int:
    """The length of the longest stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, first) if len(first) else values[:0]


def _is_word(letters: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """More than a letter, and no number, version or hash."""
    return (letters > 1) & (letters > digits)


def _amount(data: np.ndarray, starts: np.ndarray, digits: np.ndarray, letters: np.ndarray) -> np.ndarray:
    """(words,) bool: digits, then two letters or more."""
    numbers = np.append(0, np.cumsum(_DIGIT[data]))
    return (digits > 0) & (letters > 1) & (numbers[starts + digits] - numbers[starts] == digits)


def _tails(data: np.ndarray, ends: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(names,) uint64: the one or two signs right after each name, before its text ends."""
    after = np.append(data, np.zeros(2, np.uint8)).astype(np.uint64)
    one = after[ends] * _TAIL[after[ends].astype(np.intp)] * (ends < limits)
    two = after[ends + 1] * _TAIL[after[ends + 1].astype(np.intp)] * ((one > 0) & (ends + 1 < limits))
    return one * np.uint64(256) + two


def _joined(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(words,) bool: is this word one name with that before, as in `os.path` or `std::sort`?"""
    gap = starts[1:] - ends[:-1]
    near = (gap == 1) | (gap == 2)
    joins = near & _JOINS[data[ends[:-1]]] & _JOINS[data[starts[1:] - 1]]
    return np.append(False, joins)[: len(starts)]


def _held(data: np.ndarray, offsets: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(words,) bool: does the word stand in a short line that says who holds the copyright?"""
    whole, cuts, done = data.tobytes(), [], 0
    edges = offsets.tolist()
    for start, end in _holders(whole):
        row = bisect_right(edges, start) - 1
        first, behind = max(done, edges[row]), edges[row + 1]
        if start < done or end > behind:  # in a line that is known, or made by two texts
            continue
        begin = whole.rfind(b"\n", first, start) + 1 or first
        done = whole.find(b"\n", end, behind)
        done = behind if done < 0 else done
        cuts += [begin, done] if done - begin <= _LINE else []
    return np.searchsorted(np.array(cuts, np.int64), starts, "right") % 2 == 1


def _holders(text: bytes) -> list[tuple[int, int]]:
    """Where a text speaks of copyright: (first byte, byte after), in order."""
    lower, found = text.lower(), []
    for sign in (b"copyright", b"\xc2\xa9", b"(c)"):
        at = lower.find(sign)
        while at >= 0:
            end = at + len(sign)
            year = _YEAR.match(lower, end) if sign == b"(c)" else None
            if sign != b"(c)" or year:
                found.append((at, year.end() if year else end))
            at = lower.find(sign, end)
    return sorted(found)


def another(
    mine: pa.Table, theirs: pa.Table, member: np.ndarray, head: np.ndarray, rules: Subject
) -> np.ndarray:
    """(pairs,) bool: is row member[i] of `mine` about something else than row head[i] of `theirs`?"""
    answers = [np.zeros(0, bool)]
    for start in range(0, len(member), _TOGETHER):
        pair = slice(start, start + _TOGETHER)
        rows, left = np.unique(member[pair], return_inverse=True)
        kept, right = np.unique(head[pair], return_inverse=True)
        said = _said(mine.take(pa.array(rows))), _said(theirs.take(pa.array(kept)))
        answers.append(_another(*said, left, right, rules))
    return np.concatenate(answers)


def _another(member: _Said, kept: _Said, left: np.ndarray, right: np.ndarray, rules: Subject) -> np.ndarray:
    all_words = kept.words, np.diff(kept.first)
    told, own = _missing(member.words, member.first, member.telling, *all_words, left, right)
    other = own > np.minimum(rules.own * told, rules.own_words)
    other |= _missing(member.words, member.first, member.amounts, *all_words, left, right)[1] > 0
    opening = _early(member.naming, member.first_name, rules.opening)
    begun = _early(np.ones(len(kept.names), bool), kept.first_name, rules.within)
    sizes = np.diff(np.append(0, np.cumsum(begun))[kept.first_name])
    names = member.names, member.first_name, opening, kept.names[begun], sizes
    other |= _missing(*names, left, right)[1] > 0
    mine, theirs = runs(member.words, member.first, 3), runs(kept.words, kept.first, 3)
    known, first = sets(theirs.hashes, theirs.offsets)
    for pair in np.flatnonzero(~other):
        ours = mine.hashes[mine.offsets[left[pair]] : mine.offsets[left[pair] + 1]]
        new = np.ones(len(ours), bool)
        new[lookup(ours, known[first[right[pair]] : first[right[pair] + 1]])[0]] = False
        other[pair] = _longest(new) > rules.passage
    return other


def _early(marked: np.ndarray, first: np.ndarray, most: int) -> np.ndarray:
    """The marks that are among the first `most` of their row."""
    before = np.append(0, np.cumsum(marked))
    return marked & (before[1:] - np.repeat(before[first[:-1]], np.diff(first)) <= most)


def _missing(
    hashes: np.ndarray,
    first: np.ndarray,
    wanted: np.ndarray,
    kept: np.ndarray,
    sizes: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) twice: how many different `wanted` ones row left[i] has, and how many of them are none of the
    sizes[right[i]] that are kept."""
    ours = np.append(0, np.cumsum(wanted))[first]
    offsets = np.concatenate([ours, ours[-1] + np.cumsum(sizes)])
    rows, offsets = sets(np.concatenate([hashes[wanted], kept]), offsets)
    counts = np.diff(offsets)[left]
    return counts, counts - shared(rows, offsets, left, right + len(first) - 1)
