"""Is this a copy, or another page from the same template? A page about something else says so in few words.

Two pages of a reference or two half-translated manuals can agree in all but a name. So a copy must bring
almost no word that the kept document never says, no clause, no number with a unit, and open with no name
that the kept one does not open with. Other numbers are not looked at (versions, dates, hashes), nor are
lines about copyright: who holds it is not what a text says.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from pydantic import Field

from puna.data.dedup.order import mix
from puna.data.document import text_buffers
from puna.kernels.words import words
from puna.settings import Settings

_HOLDER = re.compile(rb"copyright|\xc2\xa9|\(c\) ?[12]\d{3}", re.I)
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


@dataclass(frozen=True)
class _Said:
    """What a text says: hashes of its words and of its names, and which of them speak of its subject."""

    words: np.ndarray
    telling: np.ndarray  # bool for each word: does it tell of the subject?
    amounts: np.ndarray  # bool for each word: a number with its unit, as in 780MB
    names: np.ndarray  # words joined by dots, colons or underscores are one name
    naming: np.ndarray  # bool for each name

    @classmethod
    def by(cls, texts: pa.Table, row: int) -> "_Said":
        data, offsets = text_buffers(texts.slice(row, 1))
        data = data[offsets[0] : offsets[1]]
        found = words(data, np.array([0, len(data)]))
        free = ~_held(data, found.starts)
        numbers = np.append(0, np.cumsum(_DIGIT[data]))
        digits = numbers[found.ends] - numbers[found.starts]
        letters = found.ends - found.starts - digits  # bytes
        first = np.flatnonzero(~_joined(data, found.starts, found.ends))
        part = np.arange(len(found.hashes)) - np.repeat(first, np.diff(np.append(first, len(found.hashes))))
        parts = mix(found.hashes + part.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        names, digits_each, letters_each = (_sums(each, first) for each in (parts, digits, letters))
        last = np.append(first[1:], len(found.hashes)) - 1 if len(first) else first
        names = mix(names ^ _tails(data, found.ends[last]))
        telling = free & _is_word(letters, digits)
        amounts = free & _amount(data, found.starts, digits, letters)
        return cls(found.hashes, telling, amounts, names, free[first] & _is_word(letters_each, digits_each))


def _runs(words: np.ndarray) -> np.ndarray:
    """The hash of each three words side by side."""
    return mix(mix(mix(words[:-2]) + words[1:-1]) + words[2:])


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


def _tails(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(names,) uint64: the one or two signs right after each name."""
    after = np.append(data, np.zeros(2, np.uint8)).astype(np.uint64)
    one = after[ends] * _TAIL[after[ends].astype(np.intp)]
    two = after[ends + 1] * _TAIL[after[ends + 1].astype(np.intp)] * (one > 0)
    return one * np.uint64(256) + two


def _joined(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(words,) bool: is this word one name with that before, as in `os.path` or `std::sort`?"""
    gap = starts[1:] - ends[:-1]
    near = (gap == 1) | (gap == 2)
    joins = near & _JOINS[data[ends[:-1]]] & _JOINS[data[starts[1:] - 1]]
    return np.append(False, joins)[: len(starts)]


def _held(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(words,) bool: does the word stand in a short line that says who holds the copyright?"""
    text, at, cuts = data.tobytes(), 0, []
    while match := _HOLDER.search(text, at):
        begin = text.rfind(b"\n", at, match.start()) + 1 or at
        end = text.find(b"\n", match.end())
        at = len(text) if end < 0 else end
        cuts += [begin, at] if at - begin <= _LINE else []
    return np.searchsorted(np.array(cuts, np.int64), starts, "right") % 2 == 1


def another(
    mine: pa.Table, theirs: pa.Table, member: np.ndarray, head: np.ndarray, rules: Subject
) -> np.ndarray:
    """(pairs,) bool: is row member[i] of `mine` about something else than row head[i] of `theirs`?"""
    kept = lru_cache(4)(lambda row: _Said.by(theirs, row))
    pairs = zip(member.tolist(), head.tolist(), strict=True)
    return np.array([_another(_Said.by(mine, m), kept(h), rules) for m, h in pairs], bool)


def _another(member: _Said, kept: _Said, rules: Subject) -> bool:
    told = np.unique(member.words[member.telling])
    own = len(told) - np.isin(told, kept.words).sum()
    if own > min(rules.own * len(told), rules.own_words):
        return True
    opening = member.names[member.naming][: rules.opening]
    begun = np.isin(opening, kept.names[: rules.within]).all()
    if not begun or not np.isin(member.words[member.amounts], kept.words).all():
        return True
    return _longest(~np.isin(_runs(member.words), _runs(kept.words))) > rules.passage
