"""The blocks of a page: headings, paragraphs, items of lists, code, rows; from and to text.

Resiliparse writes the main content as HTML of a dozen tags, with everything else escaped. This reads it into
blocks, and writes these as plain text or as Markdown.
"""

import re
from dataclasses import dataclass
from html import unescape

_TAG = re.compile(r"(</?(?:h[1-6]|p|pre|ul|ol|li|br|a)\b[^<>]*>)")
_SPACES = re.compile(r"[ \t\r\f\v\xa0]+")
_CELLS = re.compile(r" *\t[\t ]*")
CELLS = " | "


@dataclass
class Block:
    """Text that stands by itself."""

    kind: str  # "h1" to "h6", "p", "pre", "li", or "" for a bare line
    text: str
    mark: str = ""  # of an item: its indentation and bullet
    loose: bool = False  # a blank line stands before it
    away: bool = False  # it is only links to other pages


def blocks_of(small: str) -> list[Block]:
    """The blocks of Resiliparse's small HTML."""
    reader = _Reader()
    for index, part in enumerate(_TAG.split(small)):
        reader.tag(part) if index % 2 else reader.text(part)
    reader.close()
    return reader.blocks


class _Reader:
    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.kind, self.held, self.mark = "", [""], ""
        self.lists: list[int] = []  # of each open list: the next number, or -1 where it has bullets

    def text(self, text: str) -> None:
        if self.kind == "pre" or not text.isspace():
            self.held.append(text)

    def tag(self, tag: str) -> None:
        name = tag.strip("</>").split(" ")[0]
        if name == "br":
            self.held.append("\n")
        elif name != "a" and (self.kind != "pre" or name == "pre"):
            self.close()
            self._enter(name) if tag[1] != "/" else self._leave(name)

    def _enter(self, name: str) -> None:
        if name in ("ul", "ol"):
            self.lists.append(1 if name == "ol" else -1)
        elif name == "li":
            self._item()
        else:
            self.kind = name

    def _leave(self, name: str) -> None:
        if name in ("ul", "ol") and self.lists:
            self.lists.pop()
        self.kind = ""

    def _item(self) -> None:
        self.kind = "li"
        number = self.lists[-1] if self.lists else -1
        self.mark = "  " * (len(self.lists) - 1) + ("- " if number < 0 else f"{number}. ")
        if number > 0:
            self.lists[-1] += 1

    def close(self) -> None:
        """End the block that is open."""
        text, self.held = unescape("".join(self.held)), []
        if self.kind == "pre":
            text = text.strip("\n").rstrip()
            if text:
                self.blocks.append(Block("pre", text, loose=True))
            return
        lines = list(filter(None, map(_line, text.split("\n"))))
        if self.mark and lines:
            self.blocks.append(Block("li", " ".join(lines), self.mark))
            self.mark = ""
        elif self.kind and lines:
            self.blocks.append(Block(self.kind, "\n".join(lines), loose=self.kind != "li"))
        else:
            self.blocks += [Block("", line) for line in lines]


def _line(line: str) -> str:
    return _SPACES.sub(" ", _CELLS.sub(CELLS, line.strip())).strip()


def written(blocks: list[Block], markdown: bool) -> str:
    """The text of blocks: a blank line around paragraphs, headings and code, one line an item or row."""
    lines: list[str] = []
    before = ""
    for block in blocks:
        apart = (
            block.loose
            or before in ("p", "pre")
            or before[:1] == "h"
            or (before == "li") != (block.kind == "li")
        )
        if lines and apart:
            lines.append("")
        lines.append(_marked(block) if markdown else block.mark + block.text)
        before = block.kind
    return "\n".join(lines)


def _marked(block: Block) -> str:
    if block.kind == "pre":
        fence = "```" if "```" not in block.text else "~~~~"
        return f"{fence}\n{block.text}\n{fence}"
    if block.kind[:1] == "h":
        return f"{'#' * int(block.kind[1])} {block.text}"
    return block.mark + block.text
