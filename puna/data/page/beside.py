"""Two texts side by side with what differs marked, word for word."""

import re
from difflib import SequenceMatcher

from puna.data.page.html import Html, clipped, joined, tag

WORDS = 260  # of each side that are compared: the cost grows with their product
CONTEXT = 14  # equal words shown before the first difference
LETTERS = 60  # of one word


def beside(gone: str, kept: str) -> tuple[Html, Html, bool]:
    """(the dropped text, the kept one, do their beginnings differ?), cut to where they begin to differ."""
    one, other = (re.findall(r"\s*\S+", text) for text in (gone, kept))
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a.strip() != b.strip()), None)
    differ = same is not None or len(one) != len(other)
    start = max(0, (min(len(one), len(other)) if same is None else same) - CONTEXT) if differ else 0
    one, other = one[start : start + WORDS], other[start : start + WORDS]
    match = SequenceMatcher(None, [w.strip() for w in one], [w.strip() for w in other], autojunk=False)
    left: list[Html | str] = [f"… {start:,} words the same … "] if start else []
    right = list(left)
    for kind, a, b, c, d in match.get_opcodes():
        left.append(_said(one[a:b], kind == "equal", "del"))
        right.append(_said(other[c:d], kind == "equal", "ins"))
    return tag("div", left, cls="text", dir="auto"), tag("div", right, cls="text", dir="auto"), differ


def _said(words: list[str], equal: bool, mark: str) -> Html | str:
    text = "".join(clipped(word, LETTERS) for word in words)
    if equal or not text:
        return text
    blank = len(text) - len(text.lstrip())
    return joined(text[:blank], tag(mark, text[blank:]))
