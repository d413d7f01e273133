"""blocks of a tree"""

from puna.data.extract.blocks import Block, _line
from puna.data.extract.main import Main, length
from puna.data.extract.tree import ALT, HERE, LINKED, Node

LONGEST_CELL = 300
BLOCKS = frozenset(
    """address article aside blockquote body center dd details dialog dir div dl dt fieldset figure figcaption footer form
    header hgroup hr main menu nav section summary caption table tbody thead tfoot tr html frameset legend optgroup option label""".split()
)


class Writer:
    def __init__(self, nodes: list[Node], main: Main, alts: bool) -> None:
        self.nodes, self.main, self.alts = nodes, main, alts
        self.blocks: list[Block] = []
        self.kind, self.held, self.mark = "", [], ""
        self.lists: list[int] = []
        self.away = True
        self.row = 0  # end of the table of data that we are in
        self.pre = 0
        self.ends = []  # (end, tag)
        self.run()

    def run(self):
        at, nodes = self.main.first, self.nodes
        while at < self.main.end:
            while self.ends and self.ends[-1][0] <= at:
                self.leave(self.ends.pop()[1])
            node = nodes[at]
            if self.main.dropped[at]:
                at = node.end
                continue
            if not node.tag:
                if self.alts or not node.marks & ALT:
                    self.text(node.text)
                    if not node.text.isspace() and (not node.marks & LINKED or node.marks & HERE):
                        self.away = False
            else:
                self.enter(at, node)
                self.ends.append((node.end, node.tag))
            at += 1
        while self.ends:
            self.leave(self.ends.pop()[1])
        self.close()

    def text(self, text):
        if self.kind == "pre":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            self.held.append(text)
        else:
            self.held.append(text.translate({10: " ", 13: " "}))

    def enter(self, at, node):
        tag = node.tag
        if tag == "br":
            self.held.append("\n" if not self.row else " ")
        elif self.kind == "pre":
            return
        elif tag == "table" and not self.row:
            self.close()
            if self.data(at, node):
                self.row = node.end
        elif tag in ("td", "th"):
            if self.row:
                self.held.append("\t")
            else:
                self.close()
        elif self.row:
            if tag == "tr":
                self.close()
                self.kind = ""
            elif tag in BLOCKS or tag in ("p", "li", "ul", "ol"):
                self.held.append(" ")
        elif tag in ("ul", "ol"):
            self.close()
            self.kind = ""
            self.lists.append(1 if tag == "ol" else -1)
        elif tag == "li":
            self.close()
            self.kind = "li"
            number = self.lists[-1] if self.lists else -1
            self.mark = "  " * (len(self.lists) - 1) + ("- " if number < 0 else f"{number}. ")
            if number > 0:
                self.lists[-1] += 1
        elif tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6", "pre"):
            self.close()
            self.kind = tag
        elif tag in BLOCKS:
            self.close()
            self.kind = ""

    def leave(self, tag):
        if self.kind == "pre":
            if tag == "pre":
                self.close()
                self.kind = ""
            return
        if self.row:
            if tag == "table":
                self.close()
                self.row = 0
            elif tag in BLOCKS and tag != "tr" or tag in ("p", "li"):
                self.held.append(" ")
            return
        if tag in ("ul", "ol") and self.lists:
            self.close()
            self.lists.pop()
            self.kind = ""
        elif tag in BLOCKS or tag in ("p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th"):
            self.close()
            self.kind = ""

    def data(self, at, node):
        """Whether this is a table of data."""
        i = at + 1
        while i < node.end:
            x = self.nodes[i]
            if x.tag in ("table", "pre"):
                return False
            if x.tag in ("td", "th") and self.main.size[i] > LONGEST_CELL:
                return False
            i += 1
        return True

    def close(self):
        text, self.held = "".join(self.held), []
        away, self.away = self.away, True
        if self.kind == "pre":
            text = text.strip("\n").rstrip()
            if text:
                self.blocks.append(Block("pre", text, loose=True))
            return
        lines = list(filter(None, map(_line, text.split("\n"))))
        if self.mark and lines:
            self.blocks.append(Block("li", " ".join(lines), self.mark, away=away))
            self.mark = ""
        elif self.kind and lines:
            self.blocks.append(Block(self.kind, "\n".join(lines), loose=self.kind != "li", away=away))
        else:
            self.blocks += [Block("", line, away=away) for line in lines]
