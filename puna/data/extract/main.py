"""The main content of a page: which nodes of its tree a reader came for.

Text counts as prose where it is no link and long enough to say something. What holds most of a page's prose is
never dropped for its name; else menus, adverts and their like go by their tags, by what their classes say, and
by being links. What remains is looked at from the root down: where one element holds nearly all prose, the
rest is its surroundings.

This is the definition; puna/kernels/cpu/html_main.cpp is its twin.
"""

from array import array

from puna.data.extract import words
from puna.data.extract.tree import ALT, FOREIGN, HIDDEN, LIKELY, LINKED, UNLIKELY, Node

PROSE = 20  # characters; a shorter text is a label
MOST = 0.5
SOME = 0.3
INNER = 0.7
LEAST = 0.3
PART = 0.25
SUMMARY = 150
NEST = 0.4
NEARLY, BESIDE = 0.9, 20


class Main:
    """Which nodes stay, as `kept`, one byte each."""

    def __init__(self, nodes: list[Node], title: bool) -> None:
        self.nodes, self.title = nodes, title
        n = len(nodes)
        self.size, self.linked, self.prose = ([0] * n for _ in range(3))
        self.dropped = bytearray(n)
        self.first = 0
        self.end = n
        self.run()

    def measure(self) -> None:
        """Characters, those in links and those of prose under each node that is not dropped."""
        nodes, n = self.nodes, len(self.nodes)
        self.size, self.linked, self.prose = ([0] * n for _ in range(3))
        at = 0
        while at < n:
            if self.dropped[at]:
                at = nodes[at].end
                continue
            node = nodes[at]
            if not node.tag and not node.marks & ALT:
                count = length(node.text)
                self.size[at] = count
                if node.marks & LINKED:
                    self.linked[at] = count
                elif count >= PROSE:
                    self.prose[at] = count
            at += 1
        for at in range(n - 1, 0, -1):
            above = nodes[at].parent
            if above >= 0:
                self.size[above] += self.size[at]
                self.linked[above] += self.linked[at]
                self.prose[above] += self.prose[at]

    def drop(self, unwanted) -> None:
        at, nodes = 0, self.nodes
        while at < len(nodes):
            if not self.dropped[at] and nodes[at].tag and unwanted(at, nodes[at]):
                self.dropped[at] = 1
            at = nodes[at].end if self.dropped[at] else at + 1

    def run(self) -> None:
        self.drop(lambda at, node: node.tag in words.NEVER or (node.tag == "h1" and not self.title))
        for mark, tags, most in ((HIDDEN, (), MOST), (FOREIGN, words.DROPPED, MOST), (UNLIKELY, (), SOME)):
            self.measure()
            total = sum(p for p, n in zip(self.prose, self.nodes) if n.parent < 0)
            self.drop(lambda at, node: (node.marks & mark or node.tag in tags) and self.prose[at] <= most * total)
        self.measure()
        self.drop(self.links)
        self.measure()
        self.choose()

    def links(self, at: int, node: Node) -> bool:
        """Whether this is a list of links."""
        size, linked = self.size[at], self.linked[at]
        most = 0.6 if node.tag in ("ul", "ol", "table", "dl") else 0.75
        return node.tag in words.LISTS and size > 0 and linked > most * size and self.prose[at] < 200

    def choose(self) -> None:
        """From the root to the element that holds nearly all prose."""
        nodes = self.nodes
        total = sum(p for p, n in zip(self.prose, nodes) if n.parent < 0)
        inner = [0] * len(nodes)  # prose of likely elements inside
        for at in range(len(nodes) - 1, 0, -1):
            node = nodes[at]
            if node.parent >= 0 and not self.dropped[at] and node.tag and self.prose[at] >= PART * total:
                inner[node.parent] += self.prose[at] if self.likely(node) else inner[at]
        at, within = 0, False
        while at < self.end:
            node = nodes[at]
            if self.dropped[at]:
                at = node.end
                continue
            if self.likely(node) and self.prose[at] >= LEAST * total and self.prose[at] >= max(INNER * inner[self.first], NEST * self.prose[self.first] * within):
                within = True
                self.first, self.end = at, node.end
            at += 1
        self.descend(self.prose[self.first] if within else total)
        self.before()

    def descend(self, total) -> None:
        """Go on to the innermost element that holds nearly all prose, unless paragraphs stand beside it."""
        nodes, at = self.nodes, self.first
        beside = [0] * len(nodes)
        for i, node in enumerate(nodes):
            if node.parent >= 0 and node.tag in words.PARTS and not self.dropped[i]:
                beside[node.parent] += self.prose[i]
        while at < self.end:
            node = nodes[at]
            if self.dropped[at]:
                at = node.end
                continue
            if node.tag in words.CONTAINERS and self.prose[at] >= NEARLY * total and at > self.first:
                if node.parent >= 0 and beside[node.parent] - (self.prose[at] if node.tag in words.PARTS else 0) >= BESIDE:
                    break
                self.first, self.end = at, node.end
            at += 1

    def before(self) -> None:
        """Go back to a summary that stands beside what was chosen."""
        nodes = self.nodes
        at = nodes[self.first].parent + 1
        while 0 < at < self.first:
            if not self.dropped[at] and self.prose[at] >= SUMMARY and self.linked[at] < 0.3 * self.size[at]:
                self.first = at
                break
            at = nodes[at].end

    def likely(self, node):
        return node.tag in ("article", "main") or node.marks & LIKELY


def length(text: str) -> int:
    """Characters but for white space."""
    return len(text.encode()) - sum(map(text.count, " \n\t\r\f")) - 2 * text.count("\xa0")
