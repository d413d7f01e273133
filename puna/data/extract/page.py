"""The main text of a web page: what a reader came for, without menus, adverts and what hides behind them."""

from dataclasses import dataclass

from pydantic import Field
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.exception import HTMLParserException

from puna.data.extract import limits
from puna.data.extract.charset import decode
from puna.settings import Settings


@dataclass(frozen=True)
class Page:
    """The text of a page, or why there is none."""

    text: str = ""
    title: str = ""
    refused: str = ""  # a stable reason: "too_long", "too_many_attributes", "too_deep", "empty"


class Extract(Settings):
    """How a page becomes text."""

    most_bytes: int = Field(default=5 << 20, ge=1)  # of HTML; what Common Crawl stores of a page
    most_depth: int = Field(default=256, ge=1)  # nested elements; pages that people read have under 100
    most_attributes: int = Field(default=4096, ge=1)  # of one tag
    title: bool = False  # the title as first line

    def page(self, data: bytes, charset: str | None = None) -> Page:
        """The page in these bytes; `charset` is what its server said."""
        if len(data) > self.most_bytes:
            return Page(refused="too_long")
        html = decode(data, charset)
        if limits.attributes(html, self.most_attributes):
            return Page(refused="too_many_attributes")
        try:
            tree = HTMLTree.parse(html)
        except HTMLParserException:
            return Page(refused="malformed")
        if limits.deep(tree, self.most_depth):
            return Page(refused="too_deep")
        text = extract_plain_text(
            tree,
            preserve_formatting=True,
            main_content=True,
            comments=False,
            post_meta=False,
            alt_texts=False,
        )
        return Page(text, tree.title or "") if text.strip() else Page(refused="empty")
