"""The main text of a web page: what a reader came for, without menus, adverts and what hides behind them.

Resiliparse finds the main content at 1 ms a page. We give it the page with formulas as their source and rows
of tables on lines, tell it what else to leave out, and take away what only its words give away.
"""

from dataclasses import dataclass

from pydantic import Field
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.exception import HTMLParserException

from puna.data.extract import limits
from puna.data.extract.blocks import blocks_of, written
from puna.data.extract.charset import decode
from puna.data.extract.prepare import prepare
from puna.data.extract.said import said
from puna.data.extract.tidy import tidy
from puna.settings import Settings

# What class names say is not the article; each helped, see docs/log.md.
_CLASSES = (
    *("caption", "gallery", "footer", "consent", "cookie", "newsletter", "subscribe", "popular", "popup"),
    *("byline", "credit", "related", "banner", "headerlink", "katex-html", "MathJax"),
)
_SKIPPED = ["header", "footer", *(f'[class*="{word}" i]' for word in _CLASSES), '[id*="bio" i]']


@dataclass(frozen=True)
class Page:
    """The text of a page, or why there is none."""

    text: str = ""
    title: str = ""
    robots: str = ""  # contents of <meta name="robots">, one a line
    tdm: str = ""  # content of <meta name="tdm-reservation">
    licence: str = ""  # address of the licence that it names
    refused: str = ""  # "too_long", "too_many_tags", "too_many_attributes", "too_deep", "malformed", "empty"


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
        html = prepare(decode(data, charset))
        if html.count("<") > self.most_tags:
            return Page(refused="too_many_tags")
        if limits.attributes(html, self.most_attributes):
            return Page(refused="too_many_attributes")
        try:
            tree = HTMLTree.parse(html)
        except HTMLParserException:
            return Page(refused="malformed")
        if limits.deep(tree, self.most_depth):
            return Page(refused="too_deep")
        text = written(tidy(blocks_of(self._main(tree))), self.markdown)
        if not text:
            return Page(refused="empty")
        use = said(html)
        return Page(text, tree.title or "", use.robots, use.tdm, use.licence)

    def _main(self, tree: HTMLTree) -> str:
        """The main content as Resiliparse's small HTML."""
        skipped = _SKIPPED if self.title else ["h1", *_SKIPPED]
        return extract_plain_text(
            tree,
            preserve_formatting="minimal_html",
            main_content=True,
            alt_texts=self.alts,
            comments=False,
            post_meta=False,
            skip_elements=[",".join(skipped)],
        )
