"""Blocks that stand in an article and are none of it: links to other articles, calls to subscribe, dates.

Code is never looked at. This is the definition; puna/kernels/cpu/html_text.cpp is its twin.
"""

import re
from collections.abc import Callable
from functools import cache

from puna.data.extract import words
from puna.data.extract.blocks import Block
from puna.kernels.characters import kinds_and_folds

LONG = 80  # characters; a block as long that ends a sentence ends a list of links to other articles
SHORT = 60  # a heading over such a list, a date
CALL = 120  # a call to do something
TOP = 6  # blocks among which a date is a date line
FAR = 12  # characters before the month of a date line
_DIGITS = re.compile("[0-9]+")
_ISO = re.compile("#-#-#")
_WORD = re.compile("[a-z]+")


def tidy(blocks: list[Block]) -> list[Block]:
    """The blocks that belong to the article."""
    kept: list[Block] = []
    among_links = False
    for place, block in enumerate(blocks):
        if block.kind == "pre":
            among_links = False
            kept.append(block)
            continue
        size = len(block.text)
        if size >= LONG and block.text.endswith(words.SENTENCE_ENDS):
            among_links = False
        line = plain(block.text) if size <= CALL else ""
        if place and size <= SHORT and _others()(line):
            among_links = True
        call = size <= CALL and _calls()(line)
        date = place < TOP and size <= SHORT and _dated(line)
        title = block.away and block.kind == "p" and "://" not in block.text  # of another article
        if not (among_links or call or date or title):
            kept.append(block)
    return kept


def plain(text: str) -> str:
    """A line as the lists have it."""
    return _DIGITS.sub("#", text.translate(kinds_and_folds()[1])).rstrip(words.TAIL)


def _dated(line: str) -> bool:
    """Whether a short line says a date soon."""
    found = _ISO.search(line)
    if found and found.start() <= FAR:
        return True
    months = (word for word in _WORD.finditer(line) if word.start() <= FAR)
    return "#" in line and any(word.group().startswith(words.MONTHS) for word in months)


@cache
def _others() -> Callable[[str], bool]:
    return _matcher(words.OTHERS)


@cache
def _calls() -> Callable[[str], bool]:
    return _matcher(words.CALLS)


def _matcher(phrases: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a line is one of the phrases, or begins or ends like one."""
    whole = {phrase for phrase in phrases if "*" not in phrase}
    starts = tuple(phrase[:-1] for phrase in phrases if phrase.endswith("*"))
    ends = tuple(phrase[1:] for phrase in phrases if phrase.startswith("*"))
    return lambda line: line in whole or line.startswith(starts) or line.endswith(ends)
