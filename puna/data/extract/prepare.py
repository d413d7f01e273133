"""A page's HTML before the parser sees it: scripts go, formulas become TeX, each cell of a table one line.

All of it is one walk with `find` from mark to mark: nothing here reads a character more than a few times,
whatever the page holds.
"""

import html as entities
import re
from collections.abc import Callable

_OPEN = re.compile(
    r"<(?=[!sSmtib])(?:!--|script\b|style\b|svg\b|math\b|SCRIPT\b|STYLE\b|table\b|img\b|body\b)"
)
_CLOSE = {"!--": "-->"} | {
    t: f"</{t}>" for t in ("script", "style", "svg", "math", "SCRIPT", "STYLE", "table")
}
_TEX = re.compile(r"<annotation[^<>]*(?:tex|TeX)[^<>]*>([^<]*)")
_ALTTEXT = re.compile(r"<math[^<>]*?\balttext=(?:\"([^\"]*)\"|'([^']*)')")
_TAGS = re.compile(r"<[^<>]*>")
_IMAGE = re.compile(  # a class or an address that says so
    r"\bclass=[\"']?[^\"'<>]*\b(?:tex|latex|math)|\bsrc=[\"'][^\"'<>]*\blatex",
    re.IGNORECASE,
)
_ALT = re.compile(r"\balt=(?:\"([^\"]*)\"|'([^']*)')")
_BREAKS = re.compile(r"</?(?:p|br|div|ul|ol|li)\b[^<>]*>|\n")
_CELL = re.compile(r"(?<=>)([^<>]*(?:<(?!/?t[dhr]\b)[^<>]*>[^<>]*)*)(?=</t[dh]>)", re.IGNORECASE)
LONGEST_CELL = 500  # characters of HTML; a table with a longer cell lays out a page, it is no table of data


def prepare(html: str) -> str:
    """The page without scripts, styles, drawings and comments; formulas as TeX; data cells on one line."""
    parts, done, at = [], 0, 0
    never: set[str] = set()  # ends that do not come any more: looked for once, not again from every beginning
    while found := _OPEN.search(html, at):
        start, name = found.start(), found.group()[1:]
        close = _CLOSE.get(name, ">")
        end = -1 if close in never else html.find(close, found.end())
        if end < 0:
            never.add(close)
        at = found.end() if end < 0 else end + len(close)
        new = _PARTS.get(name, _nothing)(html[start:at]) if end >= 0 else None
        if new is not None:
            parts += [html[done:start], new]
            done = at
        elif name == "table":  # a layout, or one with tables in it: what it holds is looked at by itself
            at = found.end()
    return "".join([*parts, html[done:]]).replace("twitter-tweet", "quotation")  # else taken for a button


def _nothing(_: str) -> str:
    return ""


def _script(whole: str) -> str:
    """MathJax keeps the source of a formula in a script; all others are dropped."""
    head, _, rest = whole.partition(">")
    if "math/tex" not in head:
        return ""
    return _formula(rest.rpartition("</")[0], "display" in head, escaped=False)


def _math(whole: str) -> str:
    """MathML: the TeX that it names, else its letters."""
    head = whole.partition(">")[0]
    said = _TEX.search(whole) or _ALTTEXT.match(whole)
    if said:
        return _formula(next(filter(None, said.groups()), ""), "block" in head, escaped=True)
    return f" {_TAGS.sub('', whole)} "


def _formula(tex: str, display: bool, escaped: bool) -> str:
    tex = (entities.unescape(tex) if escaped else tex).strip()
    mark = "$$" if display else "$"
    return f" {mark}{entities.escape(tex, quote=False)}{mark} " if tex else ""


def _image(whole: str) -> str | None:
    """A picture of a formula: its source."""
    said = _ALT.search(whole) if _IMAGE.search(whole) else None
    return _formula(said.group(1) or said.group(2) or "", False, escaped=True) if said else None


def _table(whole: str) -> str | None:
    """A table of data, each cell on one line."""
    if "<table" in whole[6:] or "<pre" in whole:
        return None
    if any(len(cell) > LONGEST_CELL for cell in re.split(r"<t[dh]\b", whole)):
        return None
    return _CELL.sub(lambda cell: _BREAKS.sub(" ", cell.group()), whole)


def _body(whole: str) -> str:
    """Resiliparse takes lists within four elements of the root for menus; ours begin below that."""
    return f"{whole}<div><div><div>"


_PARTS: dict[str, Callable[[str], str | None]] = {
    "script": _script,
    "math": _math,
    "img": _image,
    "table": _table,
    "body": _body,
}
