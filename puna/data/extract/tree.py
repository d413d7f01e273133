"""HTML as a flat list of nodes in the order of the page: any bytes give a tree, in time linear in the page.

Tags nest as the HTML standard says where it matters to a reader: ends that authors leave out, paragraphs that
a block ends, tables whose cells do not close. Nothing is moved: what stands between the rows of a table stays
where it was written. Formulas become TeX here, and an element knows what its class names say of it.

This is the definition; puna/kernels/cpu/html_tree.cpp is its twin.
"""

import re
from collections.abc import Set
from dataclasses import dataclass, field
from functools import cache
from html.entities import html5

from puna.data.extract import words

SPACE = " \t\n\r\f"
_SPACES = re.compile("[ \t\n\r\f\v\xa0\u3000]+")
_NAME = re.compile(r"[^ \t\n\r\f/>]*")
# Nothing in it can fail once it has begun, and nothing is read twice.
_ATTRIBUTE = re.compile(
    r"""[ \t\n\r\f/]*+(?:([^ \t\n\r\f/>][^ \t\n\r\f/>=]*+)
    (?:[ \t\n\r\f]*+=[ \t\n\r\f]*+(?:"([^"]*+)("?+)|'([^']*+)('?+)|([^ \t\n\r\f>]*+)))?+)?+""",
    re.VERBOSE,
)
_REFERENCE = re.compile(r"&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|([A-Za-z][A-Za-z0-9]*;?))")
_LONGEST = max(map(len, html5))
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_APART = re.compile("[^a-z0-9]+")
_LATIN = bytes(range(0x80, 0xA0)).decode("cp1252", "replace")  # what numbers of control characters mean
_TEX = re.compile(r"<annotation[^<>]*(?:tex|TeX)[^<>]*>([^<]*)")
_MARKUP = re.compile("<[^<>]*>")

# Marks of an element: what its attributes say of it. LINKED and HERE are marks of texts in it, too.
HIDDEN, FOREIGN, UNLIKELY, LIKELY, EDGE = 1, 2, 4, 8, 128
LINKED, HERE, ALT = 16, 32, 64  # of a link; of one within the page; what a picture shows
_LISTS = (
    (EDGE, words.EDGE),
    (FOREIGN, words.FOREIGN),
    (UNLIKELY, words.UNLIKELY),
    (LIKELY, words.LIKELY),
)


@dataclass(slots=True)
class Node:
    """An element, or a text (tag ""); what it holds stands behind it, up to `end`."""

    tag: str
    parent: int
    text: str = ""
    marks: int = 0
    end: int = 0


@dataclass
class Tree:
    nodes: list[Node] = field(default_factory=list)
    title: str = ""
    robots: list[str] = field(default_factory=list)  # what tags <meta name="robots"> say
    tdm: str = ""  # what <meta name="tdm-reservation"> says
    refused: str = ""  # "too_many_attributes", "too_deep"


def lower(text: str) -> str:
    """Small letters for the capital ones of ASCII."""
    return text.translate(_LOWER)


def squeezed(text: str) -> str:
    """Text with one space for every run of white space, and none around it."""
    return _SPACES.sub(" ", text).strip(" ")


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
            markup = _begins_markup(html[start + 1 : start + 2])
            start += not markup and start < len(html)  # the sign "less than"
            if start > at:
                self.text(unescape(html[at:start]))
            at = self.markup(start) if markup else start
        while self.open:
            self.pop()

    def markup(self, start: int) -> int:
        """Read the tag or comment at `start`; where it ends."""
        html = self.html
        if html.startswith("<!--", start):
            return self.behind("-->", start + 2)
        closes = html.startswith("/", start + 1)
        if not _is_letter(html[start + 1 + closes : start + 2 + closes]):
            return self.behind(">", start)
        found = _NAME.match(html, start + 1 + closes)
        assert found
        name_end = found.end()
        attributes, end = self.attributes(name_end)
        if end < 0:
            return len(html)
        name = lower(html[start + 1 + closes : name_end])
        if closes:
            self.leave(name)
            return end
        return self.enter(name, attributes, end)

    def behind(self, mark: str, at: int) -> int:
        """The place behind the next such mark, or the page's end."""
        end = self.html.find(mark, at)
        return len(self.html) if end < 0 else end + len(mark)

    def attributes(self, at: int) -> tuple[dict[str, str], int]:
        """Attributes from `at` on, the first of a name, and where the tag ends; -1 if it does not."""
        attributes: dict[str, str] = {}
        count = 0
        while True:
            found = _ATTRIBUTE.match(self.html, at)
            assert found
            name, double, closed, single, closed_too, bare = found.groups()
            at = found.end()
            if name is None:
                return attributes, at + 1 if at < len(self.html) else -1
            count += 1
            if count > self.most_attributes:
                self.tree.refused = "too_many_attributes"
                return attributes, -1
            if closed == "" or closed_too == "":
                return attributes, -1
            if lower(name) in words.ATTRIBUTES:
                attributes.setdefault(lower(name), double or single or bare or "")

    # Elements.

    def enter(self, name: str, attributes: dict[str, str], at: int) -> int:
        """Open an element whose start tag ends at `at`; where reading goes on."""
        if name in words.RAW and name not in self.never:
            found = _end_of(name).search(self.html, at)
            if found or name not in ("svg", "math"):  # without an end these are elements like others
                end = found.start() if found else len(self.html)
                self.raw(name, attributes, self.html[at:end])
                return self.behind(">", end)
            self.never.add(name)
        if name in ("html", "body", "head") and self.counts.get(name):
            return at
        self.imply(name)
        if name == "meta":
            self.meta(attributes)
        elif name == "img":
            self.image(attributes)
        elif name in ("br", "hr"):
            self.push(name, 0)
            self.pop()
        elif name not in words.VOID and name != "svg":
            self.push(name, _marks(name, attributes))
        return at

    def raw(self, name: str, attributes: dict[str, str], inside: str) -> None:
        """An element whose inside is no HTML, or one that is read whole."""
        if name == "title":
            self.tree.title = self.tree.title or squeezed(unescape(inside))
        elif name == "script" and "math/tex" in attributes.get("type", ""):
            self.formula(inside, "display" in attributes["type"])
        elif name == "math":
            self.math(attributes, inside)
        elif name in ("xmp", "plaintext"):
            self.imply("pre")
            self.push("pre", 0)
            self.text(inside)
            self.pop()

    def math(self, attributes: dict[str, str], inside: str) -> None:
        """MathML: the TeX that it names, else its letters."""
        said = _TEX.search(inside)
        tex = said.group(1) if said else attributes.get("alttext", "")
        if tex:
            self.formula(unescape(tex), attributes.get("display") == "block")
        else:
            self.text(f" {unescape(_MARKUP.sub('', inside))} ")

    def formula(self, tex: str, display: bool) -> None:
        tex, mark = tex.strip(SPACE), "$$" if display else "$"
        if tex:
            self.text(f" {mark}{tex}{mark} ")

    def image(self, attributes: dict[str, str]) -> None:
        alt = unescape(attributes.get("alt", ""))
        looks = _looks(attributes.get("class", ""))
        if any(word in looks for word in words.FORMULA) or "latex" in lower(attributes.get("src", "")):
            self.formula(alt, False)
        else:
            self.text(alt, ALT)

    def meta(self, attributes: dict[str, str]) -> None:
        name = lower(attributes.get("name", "").strip(SPACE))
        content = squeezed(unescape(attributes.get("content", "")))
        if name == "robots" and content:
            self.tree.robots.append(content)
        elif name == "tdm-reservation":
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
        if self.tag_of_top() == "head" and text.strip(SPACE):
            self.pop()
        marks |= LINKED if self.links else 0
        marks |= HERE if self.links and not self.away else 0
        nodes = self.tree.nodes
        nodes.append(Node("", self.open[-1] if self.open else -1, text, marks, len(nodes) + 1))

    def tag_of_top(self) -> str:
        return self.tree.nodes[self.open[-1]].tag if self.open else ""

    def imply(self, name: str) -> None:
        """Close what the start tag of this element ends."""
        top = self.tag_of_top()
        if top == "head" and name not in words.OF_HEAD:
            self.pop()
        if name in words.ENDS_P:
            self.close({"p"}, words.SCOPE_P)
        top = self.tag_of_top()
        if name in words.ENDS:
            any(self.close(closed, scope) for closed, scope in words.ENDS[name])
        elif (name in words.HEADINGS and top in words.HEADINGS) or (
            name in words.OPTIONS and top == "option"
        ):
            self.pop()
        elif name == "a":
            self.leave("a")

    def close(self, names: Set[str], scope: Set[str]) -> bool:
        """Close the innermost open element of these names, unless one of `scope` stands between."""
        if not any(self.counts.get(name) for name in names):
            return False
        for place in range(len(self.open) - 1, -1, -1):
            tag = self.tree.nodes[self.open[place]].tag
            if tag in names:
                while len(self.open) > place:
                    self.pop()
                return True
            if tag in scope:
                return False
        return False

    def leave(self, name: str) -> None:
        """The end tag of this element."""
        if name == "br" or (name == "p" and not self.counts.get("p")):
            self.enter(name, {}, 0)
            if name == "p" and not self.tree.refused:
                self.pop()
        elif name in words.HEADINGS:
            self.close(set(words.HEADINGS), words.SCOPE)
        elif name in words.TABLE:
            self.close({name}, words.SCOPE_TABLE)
        elif name in words.SPECIAL:
            if name not in ("html", "body"):
                self.close({name}, words.SCOPE_LIST if name == "li" else words.SCOPE)
        elif not self.close({name}, words.SPECIAL) and name == "a" and self.links:
            for place in self.open:  # a block stands between: it stays, the link ends
                self.unlink(self.tree.nodes[place])


def _begins_markup(character: str) -> bool:
    return character in ("!", "/", "?") or _is_letter(character)


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


@cache
def _end_of(name: str) -> re.Pattern[str]:
    """Where the end tag of a raw element begins; plain text has none."""
    ends = rf"</{name}(?=[ \t\n\r\f/>])" if name != "plaintext" else r"\Z"
    return re.compile(ends, re.ASCII | re.IGNORECASE)


def _looks(name: str) -> str:
    """Names as the lists of words have them."""
    return _APART.sub(" ", f" {lower(name)} ")


def _marks(name: str, attributes: dict[str, str]) -> int:
    """What attributes say of an element."""
    marks = 0
    style = lower(attributes.get("style", "")).replace(" ", "")
    if "hidden" in attributes or "display:none" in style or "visibility:hidden" in style:
        marks |= HIDDEN
    if name == "a" and "href" in attributes:
        marks |= LINKED | (HERE if attributes["href"].startswith("#") else 0)
    looks = [_looks(attributes.get("class", "")), _looks(attributes.get("role", ""))]
    if name in words.NAMED and " section " not in looks[0]:
        looks.append(_looks(attributes.get("id", "")))
    for mark, listed in _LISTS:
        if any(word in said for word in listed for said in looks):
            marks |= mark
    kept = any(word in looks[0] for word in words.KEPT)
    return marks & ~(EDGE | FOREIGN | UNLIKELY) if kept else marks
