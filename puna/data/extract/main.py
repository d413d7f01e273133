"""The main content of a page: which nodes of its tree a reader came for.

Text counts as prose where it is no link and long enough to say something. First goes what names and tags call
something else, unless it holds a large share of the page's prose; then lists of links. Of what is left, an
element called an article is entered where most of the prose of such elements stands in it; and any element
that holds nearly all prose, where no paragraphs stand beside it.

This is the definition; puna/kernels/cpu/html_main.cpp is its twin. Every threshold was chosen on one half of
181 article pages; the other half judges (bench/extraction.py).
"""

from collections.abc import Callable, Iterator, Set

from puna.data.extract import words
from puna.data.extract.tree import ALT, EDGE, FOREIGN, HIDDEN, LIKELY, LINKED, UNLIKELY, Node

PROSE = 20  # bytes without white space; a shorter text is a label
LEAST = 300  # bytes of prose: less never keeps the end of a page, and is never entered for itself
MOST, SOME = 0.5, 0.3  # of a page's prose: what holds more is kept whatever it is called
LISTED, BOXED = 0.6, 0.75  # of its text in links: a list, a box of links
LABEL = 200  # bytes of prose that a list of links may have
ARTICLE = 0.3  # of all prose: the least article
PART = 0.25  # of all prose: an element called an article that counts as one of several
ONLY = 0.7  # of the prose of several such: what is the main one
INNER = 0.4  # of an article's prose: the least article in it
NEARLY = 0.9  # of the prose: what holds more is entered
SUMMARY, LINKS = 150, 0.3  # bytes of prose, and most links, of a summary before the article
_NONE: Set[str] = frozenset()


def length(text: str) -> int:
    """Bytes of UTF-8 but for white space."""
    return len(text.encode()) - sum(map(text.count, " \n\t\r\f")) - 2 * text.count("\xa0")


class Main:
    """What is main of a page: nodes `first` to `end`, but for those dropped and what they hold."""

    def __init__(self, nodes: list[Node], title: bool) -> None:
        self.nodes, self.first, self.end = nodes, 0, len(nodes)
        self.dropped = bytearray(len(nodes))
        self.drop(lambda at, node: node.tag in words.NEVER or (node.tag == "h1" and not title))
        self.drop_called(HIDDEN, _NONE, MOST)
        self.drop_called(EDGE, words.EDGE_TAGS, MOST, LEAST)
        self.drop_called(FOREIGN, words.FOREIGN_TAGS, MOST)
        self.drop_called(UNLIKELY, _NONE, SOME)
        self.drop_links(words.LINK_LISTS, LISTED)
        self.drop_links(words.LINK_BOXES, BOXED)
        self.measure()
        self.enter_article()
        self.descend()
        self.go_back()

    def measure(self) -> None:
        """Bytes, those in links and those of prose under each node that stays."""
        nodes, count = self.nodes, len(self.nodes)
        self.size, self.linked, self.prose = [0] * count, [0] * count, [0] * count
        for at in self.staying(0, count):
            node = nodes[at]
            if not node.tag and not node.marks & ALT:
                self.size[at] = length(node.text)
                self.linked[at] = self.size[at] if node.marks & LINKED else 0
                self.prose[at] = self.size[at] - self.linked[at] if self.size[at] >= PROSE else 0
        self.total = 0
        for at in range(count - 1, -1, -1):
            above = nodes[at].parent
            if above < 0:
                self.total += self.prose[at]
                continue
            self.size[above] += self.size[at]
            self.linked[above] += self.linked[at]
            self.prose[above] += self.prose[at]

    def staying(self, first: int, end: int) -> Iterator[int]:
        """Nodes that are not dropped."""
        at = first
        while at < end:
            if self.dropped[at]:
                at = self.nodes[at].end
                continue
            yield at
            at += 1

    def drop(self, unwanted: Callable[[int, Node], bool]) -> None:
        at, nodes = 0, self.nodes
        while at < len(nodes):
            if not self.dropped[at] and nodes[at].tag and unwanted(at, nodes[at]):
                self.dropped[at] = 1
            at = nodes[at].end if self.dropped[at] else at + 1

    def drop_called(self, mark: int, tags: Set[str], share: float, least: int = 0) -> None:
        """Drop what is marked or tagged so, unless it holds more than a share of all prose and the least."""
        self.measure()
        most = share * self.total

        def unwanted(at: int, node: Node) -> bool:
            called = bool(node.marks & mark) or node.tag in tags
            return called and (self.prose[at] < least or self.prose[at] <= most)

        self.drop(unwanted)

    def drop_links(self, tags: Set[str], share: float) -> None:
        """Drop elements whose text is links but for a rest."""
        self.measure()

        def unwanted(at: int, node: Node) -> bool:
            return node.tag in tags and self.linked[at] > share * self.size[at] and self.prose[at] < LABEL

        self.drop(unwanted)

    def is_article(self, node: Node) -> bool:
        return node.tag in words.LIKELY_TAGS or bool(node.marks & LIKELY)

    def enter_article(self) -> None:
        """Go on to the innermost element that is called an article and holds most of what such hold."""
        nodes = self.nodes
        inside = [0] * len(nodes)  # prose of articles in an element, each at least a part of the page's
        for at in range(len(nodes) - 1, 0, -1):
            node = nodes[at]
            counts = node.parent >= 0 and not self.dropped[at] and self.prose[at] >= PART * self.total
            if counts and node.tag:
                inside[node.parent] += self.prose[at] if self.is_article(node) else inside[at]
        self.within, least = self.total, ARTICLE * self.total
        at = 0
        while at < self.end:
            if self.dropped[at]:
                at = nodes[at].end
                continue
            only = max(least, ONLY * inside[self.first])
            if self.is_article(nodes[at]) and self.prose[at] >= only:
                self.first, self.end, self.within = at, nodes[at].end, self.prose[at]
                least = max(least, INNER * self.within)
            at += 1

    def descend(self) -> None:
        """Go on to the innermost element that holds nearly all prose, unless prose stands beside it."""
        nodes = self.nodes
        parts = [0] * len(nodes)  # prose of the parts of an article right under an element
        for at, node in enumerate(nodes):
            if node.parent >= 0 and node.tag in words.PARTS and not self.dropped[at]:
                parts[node.parent] += self.prose[at]
        at = self.first
        while at < self.end:
            node = nodes[at]
            if self.dropped[at]:
                at = node.end
                continue
            nearly = self.prose[at] >= max(LEAST, NEARLY * self.within)
            if nearly and node.tag in words.CONTAINERS and at > self.first:
                own = self.prose[at] if node.tag in words.PARTS else 0
                if node.parent >= 0 and parts[node.parent] - own >= PROSE:
                    return
                self.first, self.end = at, node.end
            at += 1

    def go_back(self) -> None:
        """Go back to a summary that stands right beside the article."""
        at = self.nodes[self.first].parent + 1 if self.nodes else 0
        while 0 < at < self.first:
            little = self.linked[at] < LINKS * self.size[at]
            if not self.dropped[at] and self.prose[at] >= SUMMARY and little:
                self.first = at
                return
            at = self.nodes[at].end
