"""The main text of a web page: what a reader came for, without menus, adverts and what hides behind them.

A page becomes a tree; of its nodes some are main; these become blocks, and blocks that only their words give
away go. Formulas come as their source, rows of tables on lines, code as it stands. The native twin does all
of it in one call; the definitions beside this file say the same in Python.
"""

from dataclasses import dataclass, replace
from functools import cache
from html.entities import html5
from typing import Any

from pydantic import Field

from puna.data.extract import blocks, main, tidy, words
from puna.data.extract.charset import decode
from puna.data.extract.licence import licence_of
from puna.data.extract.tree import build
from puna.kernels.text import choose
from puna.settings import Settings


@dataclass(frozen=True)
class Page:
    """The text of a page, or why there is none."""

    text: str = ""
    title: str = ""
    robots: str = ""  # what tags <meta name="robots"> say, one a line; those of refused pages, too
    tdm: str = ""  # what a tag <meta name="tdm-reservation"> says
    refused: str = ""  # "too_long", "too_many_tags", "too_many_attributes", "too_deep", "empty"
    licence: str = ""  # address of the licence that it names


class Extract(Settings):
    """How a page becomes text."""

    most_bytes: int = Field(default=5 << 20, ge=1)  # of HTML; what Common Crawl stores of a page
    most_depth: int = Field(default=256, ge=1)  # nested elements; pages that people read have under 100
    most_tags: int = Field(default=150_000, ge=1)  # characters "<"; of long manuals, single pages have 50,000
    most_attributes: int = Field(default=4096, ge=1)  # of one tag
    markdown: bool = False  # marks of headings and code; Llama 3 was trained without [P 3.1.1]
    title: bool = False  # the heading over the article
    alts: bool = False  # what all pictures show; those of formulas are kept in any case

    def page(self, data: bytes, charset: str | None = None) -> Page:
        """The page in these bytes; `charset` is what its server said."""
        if len(data) > self.most_bytes:
            return Page(refused="too_long")
        native = _native()
        limits = self.most_depth, self.most_tags, self.most_attributes
        how = self.markdown, self.title, self.alts
        found = native.page(data, *limits, *how, False) if native else None
        if found is None:
            html = decode(data, charset).replace("\0", "")
            if native is None:
                return replace(defined(self, html), licence=licence_of(data))
            found = native.page(html.encode("utf-8", "replace"), *limits, *how, True)
        return replace(Page(*found), licence=licence_of(data))


@cache
def _native() -> Any:
    """The native twin of all this, or None where it is not built; lists and thresholds are ours."""
    native, _ = choose()
    if not hasattr(native, "Html"):
        return None
    named = {name: value for name, value in vars(words).items() if name.isupper() and name[0] != "_"}
    ends = {
        tag: [sorted(tags) for step in steps for tags in step] for tag, steps in named.pop("ENDS").items()
    }
    numbers = {
        name: float(value)
        for part in (main, blocks, tidy)
        for name, value in vars(part).items()
        if isinstance(value, int | float)
    }
    return native.Html({name: sorted(listed) for name, listed in named.items()}, ends, numbers, html5)


def defined(how: Extract, html: str) -> Page:
    """The page, by the definitions."""
    if html.count("<") > how.most_tags:
        return Page(refused="too_many_tags")
    tree = build(html, how.most_depth, how.most_attributes)
    said = {"title": tree.title, "robots": "\n".join(tree.robots), "tdm": tree.tdm}
    if tree.refused:
        return Page(refused=tree.refused, **said)
    found = main.Main(tree.nodes, how.title)
    text = blocks.written(tidy.tidy(blocks.blocks_of(tree.nodes, found, how.alts)), how.markdown)
    return Page(text, **said) if text else Page(refused="empty", **said)
