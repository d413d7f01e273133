"""What each character is to a reader of running text, as one committed table that every twin reads.

The table `cpu/characters.h` is made from Python's unicodedata (14.0) and the short lists below, and never at
run time, so that a newer Python does not change what a word is. A character has one kind:

    ' ' space   '\\n' line feed   'L' letter   'H' letter of a script written without spaces   'M' mark
    'D' digit or other number   "'" apostrophe   'T' ends a sentence   'W' the same, and no space follows
    'C' closes a quotation or a bracket   'S' any other symbol

Folding is Unicode's simple lower case, the typographic apostrophe becoming the plain one.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "cpu" / "characters.h"
EVERY = 0x110000
# Unicode's property Sentence_Terminal.
TERMINAL = """
 21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736
 17d4-17d5 1803 1809 1944-1945 1aa8-1aab 1b4e-1b4f 1b5a-1b5b 1b5e-1b5f 1b7d-1b7f 1c3b-1c3c 1c7e-1c7f 2024
 203c-203d 2047-2049 2cf9-2cfb 2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f
 a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe12 fe15-fe16 fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57
 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239
 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43
 11a9b-11a9c 11c41-11c42 11ef7-11ef8 16a6e-16a6f 16af5 16b37-16b38 16b44 16e98 1bc9f 1da88"""
WIDE = "3002 fe12 fe52 fe56-fe57 ff01 ff0e ff1f ff61"  # of those, the ones of Chinese and Japanese
# Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar: of these ranges the letters.
SPACELESS = """3005 3007 303b 3041-309f 30a1-30ff 31f0-31ff 3400-4dbf 4e00-9fff f900-faff ff66-ff9d 16fe3
 16ff2-16ff3 1aff0-1b168 20000-3ffff e01-e7f e81-eff 1780-17ff 1000-109f a9e0-a9ff aa60-aa7f"""
JOINERS = "200c-200d"  # Persian and Indic words hold them
CLOSERS = '")]}»”›'


def _listed(ranges: str) -> set[int]:
    ends = [(part.split("-") * 2)[:2] for part in ranges.split()]
    return {code for first, last in ends for code in range(int(first, 16), int(last, 16) + 1)}


def _kind(code: int, terminal: set[int], wide: set[int], spaceless: set[int], joiners: set[int]) -> str:
    character, category = chr(code), unicodedata.category(chr(code))
    if category[0] == "L":
        return "H" if code in spaceless else "L"
    if category[0] in "MN" or code in joiners:
        return "D" if category[0] == "N" else "M"
    if character == "\n" or character.isspace():
        return "\n" if character == "\n" else " "
    if code in terminal:
        return "W" if code in wide else "T"
    return "'" if character in "'’" else "C" if character in CLOSERS else "S"


def _folded(code: int) -> int:
    return ord("'") if code == ord("’") else ord(chr(code).lower()[0])


def table() -> str:
    """The text of `cpu/characters.h`; commit what it gives to change what a word is."""
    sets = [_listed(ranges) for ranges in (TERMINAL, WIDE, SPACELESS, JOINERS)]
    folded = {code: _folded(code) for code in range(EVERY) if not 0xD800 <= code < 0xE000}
    head = f"// Made by puna/kernels/characters.py from Unicode {unicodedata.unidata_version}; do not edit.\n"
    return (
        f"{head}#pragma once\nstruct KindRange {{ unsigned first, last; char kind; }};\n"
        "struct FoldRange { unsigned first, last, step; int add; };\n"
        f"static const KindRange KIND_RANGES[] = {{\n{kind_ranges('S', lambda code: _kind(code, *sets))}}};\n"
        f"static const FoldRange FOLD_RANGES[] = {{\n{fold_ranges(folded)}}};\n"
    )


def kind_ranges(usual: str, kind_of: Callable[[int], str]) -> str:
    """Every character's kind as ranges {first, last, kind}, but for those of the `usual` kind."""
    kinds: list[list] = []  # first, last, kind
    for code in range(EVERY):
        kind = kind_of(code)
        if kinds and kinds[-1][2] == kind and kinds[-1][1] == code - 1:
            kinds[-1][1] = code
        elif kind != usual:
            kinds.append([code, code, kind])
    return wrapped([f"{{0x{a:x}, 0x{b:x}, {_quoted(kind)}}}," for a, b, kind in kinds])


def fold_ranges(folded: dict[int, int]) -> str:
    """What characters fold to as ranges {first, last, step, what is added}; codes in order."""
    folds: list[list[int]] = []
    for code, to in folded.items():
        if code == to:
            continue
        run, added = folds[-1] if folds else [0, -9, 1, 0], to - code
        if run[3] == added and (code - run[1] == run[2] or (run[0] == run[1] and code - run[1] == 2)):
            run[1], run[2] = code, code - run[1]
        else:
            folds.append([code, code, 1, added])
    return wrapped([f"{{0x{a:x}, 0x{b:x}, {step}, {added}}}," for a, b, step, added in folds])


def _quoted(kind: str) -> str:
    return {"\n": r"'\n'", "'": r"'\''"}.get(kind, f"'{kind}'")


def wrapped(parts: list[str]) -> str:
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > 108:
            lines.append("")
        lines[-1] += f" {part}" if lines[-1] else part
    return "".join(f"{line}\n" for line in lines)


@cache
def kinds_and_folds() -> tuple[str, str]:
    """Two strings of every character, for str.translate: its kind, and what it folds to."""
    return read_table(TABLE.read_text("utf-8"), "S")


def read_table(text: str, usual: str) -> tuple[str, str]:
    """The same of the text of any header that `kind_ranges` and `fold_ranges` wrote."""
    kinds, folds = [usual] * EVERY, [chr(code) for code in range(EVERY)]
    for first, last, kind in re.findall(r"\{0x(\w+), 0x(\w+), '(\\?.)'\}", text):
        a, b = int(first, 16), int(last, 16) + 1
        kinds[a:b] = [{r"\n": "\n", r"\'": "'"}.get(kind, kind)] * (b - a)
    for first, last, step, added in re.findall(r"\{0x(\w+), 0x(\w+), (\d+), (-?\d+)\}", text):
        for code in range(int(first, 16), int(last, 16) + 1, int(step)):
            folds[code] = chr(code + int(added))
    return "".join(kinds), "".join(folds)
