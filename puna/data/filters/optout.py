"""What a publisher says about the use of a page, as its source found it, and a gate that heeds it.

Every source writes four columns, null where nothing is said: `http.x_robots_tag` (headers of that name, one a
line), `html.meta_robots` (contents of <meta name="robots">, one a line), `http.tdm_reservation` (header or
meta tag of the W3C's TDMRep: "1" reserves the rights of data mining), and `optout`, what of it is said to
everybody: of noai, noindex, none, tdm those that are there, such as "noai,tdm". It is for counting.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.stage import Gate, Verdict, first_reason
from puna.errors import DataError, need

COLUMNS = ("http.x_robots_tag", "html.meta_robots", "http.tdm_reservation", "optout")
SIGNALS = ("noai", "noindex", "none")  # noimageai is about pictures
WITH_VALUE = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))


def directives(said: str, agents: tuple[str, ...]) -> set[str]:
    """What lines such as `noindex, otherbot: noai` say to everybody or to one of these agents."""
    found: set[str] = set()
    for line in said.lower().splitlines():
        for_us = True  # a name holds until the next one in its line
        for part in line.split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in WITH_VALUE:
                for_us, part = name.strip() in agents, rest
            if for_us:
                found.add(part.strip())
    return found


def signals(tag: str, robots: str, tdm: str) -> dict[str, str | None]:
    """The four columns of a page, from its headers, its meta tags, and either one's word on data mining."""
    found = set(SIGNALS) & (directives(tag, ()) | directives(robots, ()))
    if tdm.strip() == "1":
        found.add("tdm")
    said = (tag, robots, tdm, ",".join(sorted(found)))
    return {column: value or None for column, value in zip(COLUMNS, said, strict=True)}


class OptOut(Gate):
    """Drops pages whose publisher does not want them learned from."""

    name = "optout"
    reads = COLUMNS[:3]
    reasons = ("optout.robots_tag", "optout.meta_robots", "optout.tdm")

    signals: tuple[str, ...] = SIGNALS
    agents: tuple[str, ...] = ("ccbot",)  # names under which our sources were crawled
    tdm: bool = True

    def __call__(self, table: pa.Table) -> Verdict:
        for column in self.reads:
            fix = "a source that gives headers, or a recipe without optout"
            need(
                column in table.column_names, f"optout: the documents have no column {column}", fix, DataError
            )
        tag, meta = (self._wants_out(table[column]) for column in self.reads[:2])
        reserved = pc.equal(pc.utf8_trim_whitespace(table[self.reads[2]].cast(pa.string())), "1")
        tdm = reserved.fill_null(False).to_numpy() & self.tdm
        return first_reason(len(table), [(tag, 0, tag), (meta, 1, meta), (tdm, 2, tdm)])

    def _wants_out(self, column: pa.ChunkedArray) -> np.ndarray:
        said, which = np.unique(column.fill_null("").to_numpy().astype(str), return_inverse=True)
        return np.array(
            [bool(directives(text, self.agents).intersection(self.signals)) for text in said], bool
        )[which]
