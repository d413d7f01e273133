"""The blocks of a page: headings, paragraphs, items of lists, code, rows; from its tree, and to text.

This is the definition; puna/kernels/cpu/html_text.cpp is its twin.
"""

import re
from dataclasses import dataclass

from puna.data.extract import words
from puna.data.extract.main import Main
from puna.data.extract.tree import ALT, HERE, LINKED, Node

LONGEST_CELL = 300  # bytes; a table with a longer cell lays out a page, it is no table of data
CELLS = " | "
_WHITE = " \t\n\r\f\v\xa0\u3000"
_BLANK = dict.fromkeys(map(ord, "\t\n\r"), " ")
_RUN = re.compile(f"[{_WHITE}]+")


@dataclass
class Block:
    """Text that stands by itself."""

    kind: str  # "h1" to "h6", "p", "pre", "li", or "" for a bare line
    text: str
    mark: str = ""  # of an item: its indentation and bullet
    away: bool = False  # all of it is links to other pages


def blocks_of(nodes: list[Node], main: Main, alts: bool) -> list[Block]:
    """The blocks of what is main of a page; `alts` adds what pictures show."""
    return _Reader(nodes, main, alts).blocks


class _Reader:
    def __init__(self, nodes: list[Node], main: Main, alts: bool) -> None:
        self.nodes, self.main = nodes, main
        self.blocks: list[Block] = []
        self.kind, self.held, self.mark, self.away = "", [""], "", True
        self.lists: list[int] = []  # of each open list: the next number, or -1 where it has bullets
        self.whole = -1  # the code, or the table of data, that we are in
        open_elements: list[int] = []
        for at in main.staying(main.first, main.end):
            while open_elements and nodes[open_elements[-1]].end <= at:
                self.leave(open_elements.pop())
            node = nodes[at]
            if node.tag:
                self.enter(at, node.tag)
                open_elements.append(at)
            elif alts or not node.marks & ALT:
                self.text(node)
        while open_elements:
            self.leave(open_elements.pop())
        self.close()

    def text(self, node: Node) -> None:
        if self.kind == "pre":
            self.held.append(node.text.replace("\r\n", "\n").replace("\r", "\n"))
        else:
            self.held.append(node.text.translate(_BLANK))
        if node.text.strip(_WHITE) and (not node.marks & LINKED or node.marks & HERE):
            self.away = False

    def enter(self, at: int, tag: str) -> None:
        in_table = self.whole >= 0 and self.kind != "pre"
        if tag == "br":
            self.held.append(" " if in_table else "\n")
        elif tag not in words.BLOCKS or (self.whole >= 0 and not in_table):
            return
        elif in_table and tag == "tr":
            self.close()
        elif in_table:
            self.held.append("\t" if tag in words.CELL else " ")
        else:
            self.close()
            if tag in words.LIST:
                self.lists.append(1 if tag == "ol" else -1)
            elif tag == "li":
                self.item()
            elif tag == "pre" or (tag == "table" and self.is_data(at)):
                self.whole = at
            self.kind = tag if tag in words.KINDS or tag == "li" else ""

    def leave(self, at: int) -> None:
        tag = self.nodes[at].tag
        if tag not in words.BLOCKS:
            return
        if self.whole >= 0 and self.whole != at:
            if self.kind != "pre":
                self.held.append(" ")
            return
        self.close()
        self.kind, self.whole = "", -1
        if tag in words.LIST:
            self.lists.pop()
        elif tag == "li":
            self.mark = ""

    def item(self) -> None:
        number = self.lists[-1] if self.lists else -1
        self.mark = "  " * (len(self.lists) - 1) + ("- " if number < 0 else f"{number}. ")
        if number > 0:
            self.lists[-1] += 1

    def is_data(self, at: int) -> bool:
        """Whether a table holds data: short cells, and neither code nor tables."""
        for i in range(at + 1, self.nodes[at].end):
            tag = self.nodes[i].tag
            if tag in ("table", "pre") or (tag in words.CELL and self.main.size[i] > LONGEST_CELL):
                return False
        return True

    def close(self) -> None:
        """End the block that is open."""
        text, self.held = "".join(self.held), []
        away, self.away = self.away, True
        if self.kind == "pre":
            text = text.strip("\n").rstrip(_WHITE)
            if text:
                self.blocks.append(Block("pre", text))
            return
        lines = list(filter(None, map(_line, text.split("\n"))))
        if self.mark and lines:
            self.blocks.append(Block("li", " ".join(lines), self.mark, away))
            self.mark = ""
        elif self.kind and lines:
            self.blocks.append(Block(self.kind, "\n".join(lines), "", away))
        else:
            self.blocks += [Block("", line, "", away) for line in lines]


def _line(line: str) -> str:
    return _RUN.sub(lambda run: CELLS if "\t" in run.group() else " ", line.strip(_WHITE))


def written(blocks: list[Block], markdown: bool) -> str:
    """The text of blocks: a blank line around paragraphs, headings and code, one line an item or row."""
    lines: list[str] = []
    before = ""
    for block in blocks:
        apart = block.kind in words.KINDS or before in words.KINDS or (before == "li") != (block.kind == "li")
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
