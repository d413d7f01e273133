"""What a page says about its licence: by a link.

A page is under what a link with rel="license" names; without one, under the Creative Commons licence that it
links to, if it is only one. What it costs is bounded, whatever the page holds.
"""

import html as entities
import re
from collections.abc import Iterator

LINKS = 100  # looked at
TAG = 2000  # characters of one
_VALUES = re.compile(
    r"\b(name|content|href|rel)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE
)
_UNSEEN = (("<!--", "-->"), ("<script", "</script"), ("<style", "</style"))


def licence_of(page: bytes) -> str:
    """The address of the licence that a page names; "" if none. Scripts and comments say nothing."""
    html = page.decode("latin-1")  # addresses are ASCII, and nothing else is looked at
    found = _licence(html)
    return _licence(_seen(html)) if found else ""


def _seen(html: str) -> str:
    for begin, end in _UNSEEN:
        parts, at = [], 0
        while (start := html.find(begin, at)) >= 0 and (stop := html.find(end, start)) >= 0:
            parts.append(html[at:start])
            at = stop + len(end)
        html = "".join([*parts, html[at:]])
    return html


def _licence(html: str) -> str:
    linked: dict[str, None] = {}
    for place in _places(html):
        start = html.rfind("<", max(0, place - TAG), place)
        values = _values(html[start : html.find(">", place, place + TAG)]) if start >= 0 else {}
        if "license" in values.get("rel", "").split():
            return values.get("href", "")
        if "creativecommons.org/" in values.get("href", ""):
            linked[values["href"].partition("//")[2].removesuffix("deed.en").removesuffix("/")] = None
    return f"https://{next(iter(linked))}" if len(linked) == 1 else ""


def _places(html: str) -> Iterator[int]:
    """Where a link to a licence may stand; some of them, for the page may be made of such."""
    at, found = html.find("license"), 0
    while at >= 0 and found < LINKS:
        if html[at - 1] in "\"'=/" or html[at + 7 : at + 8] in ('"', "'"):
            found += 1
            yield at
        at = html.find("license", at + 7)
    if (at := html.find("commons.org/publicdomain/")) >= 0:
        yield at


def _values(tag: str) -> dict[str, str]:
    """The attributes of a tag, the first of each name, on one line."""
    values = ((key.lower(), a or b or c) for key, a, b, c in reversed(_VALUES.findall(tag)))
    return {key: " ".join(entities.unescape(value).replace("\0", " ").split()) for key, value in values}
