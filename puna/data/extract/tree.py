"""HTML as a flat list of nodes in the order of the page: any bytes give a tree, in time linear in the page.

Tags nest as the HTML standard says where it matters to a reader: ends that authors leave out, paragraphs that
a block ends, tables whose cells do not close. Nothing is moved: what stands between the rows of a table stays
where it was written. Formulas become TeX here, and an element knows what its class names say of it.

This is the definition; puna/kernels/cpu/html_tree.cpp is its twin.
"""

import re
from dataclasses import dataclass, field
from html.entities import html5

from puna.data.extract import words
from puna.data.extract.words import SPACE

_NAME = re.compile(r"[^ \t\n\r\f/>]*")
_ATTRIBUTE = re.compile(
    r"""[ \t\n\r\f/]*+(?:([^ \t\n\r\f/>][^ \t\n\r\f/>=]*+)
    (?:[ \t\n\r\f]*+=[ \t\n\r\f]*+(?:"([^"]*+)("?+)|'([^']*+)('?+)|([^ \t\n\r\f>]*+)))?+)?+""",
    re.VERBOSE,
)
_REFERENCE = re.compile(r"&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|([A-Za-z][A-Za-z0-9]*;?))")
_LONGEST = max(map(len, html5))
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_APART = re.compile(r"[^a-z0-9]+")
_LATIN = bytes(range(0x80, 0xA0)).decode("cp1252", "replace")  # what numbers of control characters mean
_TEX = re.compile(r"<annotation[^<>]*(?:tex|TeX)[^<>]*>([^<]*)")
_MARKUP = re.compile(r"<[^<>]*>")

# What an element's attributes say of it.
HIDDEN, UNLIKELY, LIKELY, LINKED, VERBATIM, ALT, HERE, FOREIGN = 1, 2, 4, 8, 16, 32, 64, 128


@dataclass(slots=True)
class Node:
    """An element, or a text (tag ""); it holds the nodes behind it up to `end`."""

    tag: str
    parent: int
    text: str = ""
    marks: int = 0
    end: int = 0


@dataclass
class Tree:
    nodes: list[Node] = field(default_factory=list)
    title: str = ""
    robots: list[str] = field(default_factory=list)
    tdm: str = ""
    refused: str = ""


def unescape(text: str) -> str:
    """Text whose character references are characters; a name without semicolon counts where old pages may."""
    return _REFERENCE.sub(_referred, text) if "&" in text else text


def _referred(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name is None:
        digits = (decimal or hexadecimal).lstrip("0")
        return _numbered(int(digits or "0", 10 if decimal else 16) if len(digits) <= 8 else 0x110000)
    for size in range(min(len(name), _LONGEST), 1, -1):
        if name[:size] in html5:
            return html5[name[:size]] + name[size:]
    return found.group()


def _numbered(code: int) -> str:
    if 0x80 <= code < 0xA0:
        return _LATIN[code - 0x80]
    return "\ufffd" if code == 0 or 0xD800 <= code < 0xE000 or code > 0x10FFFF else chr(code)


def build(html: str, most_depth: int, most_attributes: int) -> Tree:
    """The tree of a page, with the reason why it is refused where it is."""
    builder = _Builder(html, most_depth, most_attributes)
    builder.run()
    return builder.tree


class _Builder:
    def __init__(self, html: str, most_depth: int, most_attributes: int) -> None:
        self.html, self.most_depth, self.most_attributes = html, most_depth, most_attributes
        self.tree = Tree()
        self.open: list[int] = []  # nodes
        self.counts: dict[str, int] = {}  # of open elements by tag
        self.away = 0  # those that lead to other pages
        self.links = 0  # open links whose end has not been seen
        self.never: set[str] = set()  # raw elements whose end does not come any more

    def run(self) -> None:
        html, at = self.html, 0
        while at < len(html) and not self.tree.refused:
            start = html.find("<", at)
            start = len(html) if start < 0 else start
            if start + 1 < len(html) and not _begins_markup(html[start + 1]):
                start += 1
            if start > at:
                self.text(unescape(html[at:start]))
            at = self.markup(start) if html.startswith("<", start) else start
        while self.open:
            self.pop()

    def markup(self, start: int) -> int:
        """Read the tag or comment at `start`; where it ends."""
        html, mark = self.html, self.html[start + 1 : start + 2]
        if mark == "!" and html.startswith("<!--", start):
            end = html.find("-->", start + 2)
            return len(html) if end < 0 else end + 3
        closes = mark == "/"
        first = html[start + 1 + closes : start + 2 + closes]
        if not (first.isascii() and first.isalpha()):
            end = html.find(">", start)
            return len(html) if end < 0 else end + 1
        found = _NAME.match(html, start + 1 + closes)
        assert found
        attributes, end = self.attributes(found.end())
        if end < 0 or self.tree.refused:
            return len(html)
        name = found.group().translate(_LOWER)
        if closes:
            self.leave(name)
            return end
        return self.enter(name, attributes, start, end)

    def attributes(self, at: int) -> tuple[dict[str, str], int]:
        """Attributes from `at` on, the first of a name, and where the tag ends; -1 if it does not."""
        attributes: dict[str, str] = {}
        count = 0
        while True:
            found = _ATTRIBUTE.match(self.html, at)
            assert found
            name, double, closed2, single, closed1, bare = found.groups()
            at = found.end()
            if name is None:
                return attributes, at + 1 if at < len(self.html) else -1
            count += 1
            if count > self.most_attributes:
                self.tree.refused = "too_many_attributes"
                return attributes, -1
            if (double is not None and not closed2) or (single is not None and not closed1):
                return attributes, -1
            name = name.translate(_LOWER)
            if name in words.ATTRIBUTES:
                attributes.setdefault(name, double or single or bare or "")

    # Elements.

    def enter(self, name: str, attributes: dict[str, str], start: int, at: int) -> int:
        """Open an element whose start tag ends at `at`; where reading goes on."""
        if name in words.RAW and name not in self.never:
            end = self.raw_end(name, at)
            if end is not None:
                return self.raw(name, attributes, start, at, end)
        if name in ("html", "body", "head") and self.counts.get(name):
            return at
        self.imply(name)
        if name == "meta":
            self.meta(attributes)
        elif name == "img":
            self.image(attributes)
        elif name in words.VOID:
            if name in ("br", "hr"):
                self.push(name, 0)
                self.pop()
        elif name != "svg":
            self.push(name, _marks(name, attributes))
        return at

    def raw_end(self, name: str, at: int) -> int | None:
        found = words.RAW[name].search(self.html, at)
        if found:
            return found.start()
        self.never.add(name)
        return None if name in ("svg", "math") else len(self.html)

    def raw(self, name: str, attributes: dict[str, str], start: int, at: int, end: int) -> int:
        """An element whose inside is no HTML, or one that is read whole."""
        inside = self.html[at:end]
        close = self.html.find(">", end)
        close = len(self.html) if close < 0 else close + 1
        if name == "title" and not self.tree.title:
            self.tree.title = " ".join(filter(None, SPACE.split(unescape(inside))))
        elif name == "script" and "math/tex" in attributes.get("type", ""):
            self.formula(inside, "display" in attributes["type"])
        elif name == "math":
            self.math(attributes, inside)
        elif name in ("xmp", "listing", "plaintext"):
            self.imply("pre")
            self.push("pre", 0)
            self.text(inside, VERBATIM)
            self.pop()
        return close

    def math(self, attributes: dict[str, str], inside: str) -> None:
        """MathML: the TeX that it names, else its letters."""
        said = _TEX.search(inside)
        tex = said.group(1) if said else attributes.get("alttext", "")
        if tex:
            self.formula(unescape(tex), attributes.get("display") == "block")
        else:
            self.text(f" {unescape(_MARKUP.sub('', inside))} ", VERBATIM)

    def formula(self, tex: str, display: bool) -> None:
        tex, mark = tex.strip(" \t\n\r\f"), "$$" if display else "$"
        if tex:
            self.text(f" {mark}{tex}{mark} ", VERBATIM)

    def image(self, attributes: dict[str, str]) -> None:
        alt = unescape(attributes.get("alt", ""))
        says = " " + _APART.sub(" ", attributes.get("class", "").translate(_LOWER))
        if any(mark in says for mark in words.FORMULA) or "latex" in attributes.get("src", "").translate(_LOWER):
            self.formula(alt, False)
        elif alt:
            self.text(alt, ALT)

    def meta(self, attributes: dict[str, str]) -> None:
        name = attributes.get("name", "").strip(" \t\n\r\f").translate(_LOWER)
        content = " ".join(filter(None, SPACE.split(unescape(attributes.get("content", "")))))
        if name == "robots" and content:
            self.tree.robots.append(content)
        elif name == "tdm-reservation" and content:
            self.tree.tdm = self.tree.tdm or content

    def push(self, name: str, marks: int) -> None:
        if len(self.open) >= self.most_depth:
            self.tree.refused = "too_deep"
            return
        nodes = self.tree.nodes
        nodes.append(Node(name, self.open[-1] if self.open else -1, "", marks))
        self.open.append(len(nodes) - 1)
        self.counts[name] = self.counts.get(name, 0) + 1
        if name == "a" and marks & LINKED:
            self.links += 1
            self.away += not marks & HERE

    def pop(self) -> None:
        node = self.tree.nodes[self.open.pop()]
        node.end = len(self.tree.nodes)
        self.counts[node.tag] -= 1
        self.unlink(node)

    def unlink(self, node: Node) -> None:
        if node.marks & LINKED:
            node.marks &= ~LINKED
            self.links -= 1
            self.away -= not node.marks & HERE

    def text(self, text: str, marks: int = 0) -> None:
        if not text:
            return
        if self.tag_of_top() == "head" and text.strip(" \t\n\r\f"):
            self.pop()
        marks |= LINKED if self.links else 0
        marks |= HERE if self.links and not self.away else 0
        nodes = self.tree.nodes
        nodes.append(Node("", self.open[-1] if self.open else -1, text, marks, len(nodes) + 1))

    def tag_of_top(self) -> str:
        return self.tree.nodes[self.open[-1]].tag if self.open else ""

    def imply(self, name: str) -> None:
        """Close what the start tag of this element ends."""
        if self.tag_of_top() == "head" and name not in words.OF_HEAD:
            self.pop()
        if name in words.ENDS_P:
            self.close(("p",), words.SCOPE_P)
        if name in words.ENDS:
            any(self.close(closed, scope) for closed, scope in words.ENDS[name])
        elif name in words.HEADINGS:
            if self.tag_of_top() in words.HEADINGS:
                self.pop()
        elif name in ("option", "optgroup"):
            if self.tag_of_top() == "option":
                self.pop()
        elif name == "a":
            self.leave("a")

    def close(self, names: tuple[str, ...], scope: frozenset[str]) -> bool:
        """Close the innermost open element of these names, unless one of `scope` stands between."""
        if not any(self.counts.get(name) for name in names):
            return False
        nodes = self.tree.nodes
        for place in range(len(self.open) - 1, -1, -1):
            tag = nodes[self.open[place]].tag
            if tag in names:
                while len(self.open) > place:
                    self.pop()
                return True
            if tag in scope:
                return False
        return False

    def leave(self, name: str) -> None:
        """The end tag of this element."""
        if name in ("br", "p") and not (name == "p" and self.counts.get("p")):
            self.enter(name, {}, 0, 0)
            if name == "p":
                self.pop()
        elif name in words.HEADINGS:
            self.close(words.HEADINGS, words.SCOPE)
        elif name in words.TABLE:
            self.close((name,), words.SCOPE_TABLE)
        elif name in words.SPECIAL:
            if name not in ("html", "body"):
                self.close((name,), words.SCOPE_LIST if name == "li" else words.SCOPE)
        elif self.counts.get(name) and not self.close((name,), words.SPECIAL) and name == "a":
            for place in self.open:
                self.unlink(self.tree.nodes[place])


def _begins_markup(character: str) -> bool:
    return character in "!/?" or (character.isascii() and character.isalpha())


def _marks(name: str, attributes: dict[str, str]) -> int:
    """What attributes say of an element."""
    marks = 0
    style = attributes.get("style", "").translate(_LOWER).replace(" ", "")
    if "hidden" in attributes or "display:none" in style or "visibility:hidden" in style:
        marks |= HIDDEN
    if name == "a" and "href" in attributes:
        marks |= LINKED | (HERE if attributes["href"].startswith("#") else 0)
    if "class" in attributes or "id" in attributes or "role" in attributes:
        named = attributes.get("id", "") if name in words.NAMED else ""  # elsewhere it names what a part is about
        said = f" {attributes.get('class', '')} {attributes.get('role', '')} "
        looks = _APART.sub(" ", said.translate(_LOWER))
        if named and " section " not in looks:
            looks += _APART.sub(" ", f"{named.translate(_LOWER)} ")
        if any(word in looks for word in words.UNLIKELY):
            marks |= UNLIKELY
        if any(word in looks for word in words.FOREIGN):
            marks |= FOREIGN
        if any(word in looks for word in words.LIKELY):
            marks |= LIKELY
    return marks
