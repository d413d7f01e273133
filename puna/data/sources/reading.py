"""What all sources share: a file or folder is a piece, and its documents come in tables of bounded size.

A source never fails for one bad document: it leaves it out, counts it by reason, and tells the counts by
`log.event("skipped", ...)` when the piece is read. Bytes bound everything, the clock nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import Field

from puna import log
from puna.data.document import SCHEMA, documents
from puna.data.filters.optout import COLUMNS
from puna.settings import Settings

Row = dict[str, Any]

# Every source writes these, null where it does not know, so that tables of several sources fit together.
DOCUMENTS = pa.schema(
    [
        *SCHEMA,
        pa.field("host", pa.string()),
        pa.field("licence", pa.string()),  # an SPDX expression, "unknown", or what the data says of itself
        pa.field("mime", pa.string()),
        pa.field("status", pa.int16()),  # of HTTP
        *(pa.field(name, pa.string()) for name in COLUMNS),  # what publishers say, see filters/optout.py
    ]
)


class Reading(Settings):
    """The base of every source: `inputs()` names pieces, `tables(piece)` reads one."""

    version: ClassVar[int] = 2  # raise it when a source answers differently
    name: str = Field(min_length=1)  # of the source, in the recipe
    paths: tuple[str, ...] = Field(min_length=1)  # files, folders
    batch_rows: int = Field(default=1000, ge=1)
    batch_bytes: int = Field(default=16 << 20, ge=1)  # of text; a table is closed when it has as many
    document_bytes: int = Field(default=5 << 20, ge=1)  # a longer one is skipped; what Common Crawl stores

    def inputs(self) -> tuple[str, ...]:
        raise NotImplementedError

    def rows(self, piece: str, skipped: Counter[str]) -> Iterable[Row]:
        """The documents of a piece one by one; what is left out is counted by reason."""
        raise NotImplementedError

    def columns(self) -> pa.Schema:
        return DOCUMENTS

    def tables(self, piece: str) -> Iterator[pa.Table]:
        """Tables of documents with the columns of `columns()`."""
        skipped: Counter[str] = Counter()
        try:
            yield from self._batches(self.rows(piece, skipped))
        finally:
            for reason, count in sorted(skipped.items()):
                log.event("skipped", source=self.name, piece=piece, reason=reason, count=count)

    def _batches(self, rows: Iterable[Row]) -> Iterator[pa.Table]:
        held: list[Row] = []
        size = 0
        for row in rows:
            held.append(row)
            size += len(row["text"])
            if len(held) >= self.batch_rows or size >= self.batch_bytes:
                yield documents(held, self.columns())
                held, size = [], 0
        if held:
            yield documents(held, self.columns())


def host(url: str) -> str | None:
    """The host in an address, in lower case; None where there is none."""
    try:
        return urlsplit(url).hostname or None
    except ValueError:  # "http://[" and the like
        return None


def clean(text: str) -> str:
    """Text that UTF-8 can hold: half pairs of surrogates and NULs become U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd") if not _plain(text) else text


def _plain(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
