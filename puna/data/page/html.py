"""Markup that cannot be broken by what stands in it: everything that is not markup already is escaped.

Documents are hostile. `tag` is the only way to make markup, so there is no place to forget to escape.
"""

import html
import re
from collections.abc import Iterable

# Control characters, and the ones that turn the direction of what follows; newline and tab stay.
HIDDEN = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
HIDDEN |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0xFEFF), "")
VOID = ("meta", "wbr", "input")


class Html(str):
    """Text that is markup."""


Inside = str | int | None | Iterable["Inside"]


def tag(name: str, /, *inside: Inside, **attributes: str | int | float | None) -> Html:
    """An element. `cls` stands for class, _ in a name for -; an attribute of None is left out."""
    said = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{html.escape(str(value).translate(HIDDEN))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{joined(*inside)}</{name}>")


def joined(*inside: Inside) -> Html:
    """Elements and texts one after the other; texts are escaped, None is nothing."""
    parts: list[str] = []
    for one in inside:
        if isinstance(one, Html):
            parts.append(one)
        elif isinstance(one, str | int):
            parts.append(html.escape(str(one).translate(HIDDEN)))
        elif one is not None:
            parts.append(joined(*one))
    return Html("".join(parts))


def clipped(text: str, most: int) -> str:
    """The beginning of a text, with an ellipsis where something is left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def named(name: str) -> Html:
    """A dotted name that may be broken into lines after its dots and between its words."""
    return joined(
        [part if i % 2 == 0 else [part, tag("wbr")] for i, part in enumerate(re.split(r"([._])", name))]
    )
