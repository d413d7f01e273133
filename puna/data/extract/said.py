"""What a page says about its own use: robots and data mining in its head, a licence by a link.

A page is under what a link with rel="license" names; without one, under the Creative Commons licence that it
links to, if it is only one. What it costs is bounded, whatever the page holds.
"""

import html as entities
import re
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 1 << 16  # characters, in which meta tags stand
LINKS = 100  # looked at
TAG = 2000  # characters of one
_META = re.compile(r"<meta\b([^<>]*)>", re.IGNORECASE)
_VALUES = re.compile(
    r"\b(name|content|href|rel)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE
)


@dataclass(frozen=True)
class Said:
    """Empty where the page says nothing."""

    robots: str = ""  # contents of <meta name="robots">, one a line
    tdm: str = ""  # content of <meta name="tdm-reservation">
    licence: str = ""  # address of the licence


def said(html: str) -> Said:
    """What a page says whose scripts and comments are gone."""
    end = html.find("</head", 0, HEAD)
    found = [_values(tag) for tag in _META.findall(html[: HEAD if end < 0 else end])]
    named = [(values.get("name", "").lower(), values.get("content", "")) for values in found]
    robots = "\n".join(content for name, content in named if name == "robots")
    tdm = next((content for name, content in named if name == "tdm-reservation"), "")
    return Said(robots, tdm, _licence(html))


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
