"""What each character is to a reader who sees no case, accent, width or ligature, as one committed table.

The table `cpu/normal.h` is made from Python's unicodedata (14.0) and never at run time, as that of
characters.py is. A character folds to others, by compatible decomposition and case folding, without the marks
that combine; nobody sees those that fold to none. Each of what it folds to has a kind:

    ' ' parts words   'L' letter, digit or mark   'H' the same of a script written without spaces
    'S' sign: punctuation, symbol or line feed, which parts words too unless signs are asked for
"""

import re
import unicodedata
from functools import cache
from pathlib import Path

from puna.kernels.characters import EVERY, fold_ranges, kind_ranges, read_table, wrapped

TABLE = Path(__file__).parent / "cpu" / "normal.h"
SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # radicals, kana, bopomofo
    (0x31A0, 0x9FFF),  # ideographs
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
TAGS = range(0xE0000, 0xE0200)  # and variation selectors: nobody sees them
HANGUL = range(0xAC00, 0xD7A4)  # syllables: in the order of their letters, so no table is needed


def _folded(code: int) -> str:
    if unicodedata.category(chr(code)) == "Cf" or code in TAGS:
        return ""
    whole = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
    return "".join(c for c in whole if not unicodedata.combining(c))


def _kind(code: int) -> str:
    category = unicodedata.category(chr(code))
    spaceless = any(low <= code <= high for low, high in SPACELESS)
    if category[0] in "LNM" or code >= 0x20000:
        return "H" if spaceless else "L" if code < 0x20000 else " "
    return "S" if category[0] in "PS" or code == ord("\n") else " "


def table() -> str:
    """The text of `cpu/normal.h`; commit what it gives to change what a normal word is."""
    codes = [code for code in range(EVERY) if not 0xD800 <= code < 0xE000 and code not in HANGUL]
    folded = {code: text for code in codes if (text := _folded(code)) != chr(code)}
    single = {code: ord(text) for code, text in folded.items() if len(text) == 1}
    others = [f'{{0x{code:x}, U"{text}"}},' for code, text in folded.items() if len(text) != 1]
    head = f"// Made by puna/kernels/normal.py from Unicode {unicodedata.unidata_version}; do not edit.\n"
    return (
        f'{head}#pragma once\n#include "characters.h"\n'
        "struct FoldText { unsigned code; const char32_t* text; };\n"
        f"static const KindRange NORMAL_KINDS[] = {{\n{kind_ranges(' ', _kind)}}};\n"
        f"static const FoldRange NORMAL_FOLDS[] = {{\n{fold_ranges(single)}}};\n"
        f"static const FoldText NORMAL_TEXTS[] = {{\n{wrapped(others)}}};\n"
    )


@cache
def kinds_and_folds() -> tuple[str, dict[int, str]]:
    """(every character's kind in order, what those fold to that do not fold to themselves)."""
    text = TABLE.read_text("utf-8")
    kinds, single = read_table(text, " ")
    folds = {code: c for code, c in enumerate(single) if ord(c) != code}
    for code, folded in re.findall(r'\{0x(\w+), U"([^"]*)"\}', text):
        folds[int(code, 16)] = folded
    return kinds, folds | {code: _letters(code - HANGUL.start) for code in HANGUL}


def _letters(syllable: int) -> str:
    """The two or three letters of a Hangul syllable by its number [Unicode, 3.12]."""
    last = syllable % 28
    return chr(0x1100 + syllable // 588) + chr(0x1161 + syllable // 28 % 21) + chr(0x11A7 + last) * (last > 0)
