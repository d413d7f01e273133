"""The same text twice is one document: compared whole, after Unicode and blanks are brought to one form."""

import hashlib
import unicodedata

import pyarrow as pa

from puna.data.dedup.earlier import Crawl
from puna.data.dedup.order import binary16, halves, one_survivor, standing
from puna.data.rounds import Round


class SameText(Crawl):
    """Drops all but the best of equal texts by the total order of order.py."""

    name = "dedup.exact"
    keyed = ("normalise",)
    reasons = ("dedup.exact.copy",)
    normalise: bool = True  # NFC, and any run of blanks counts as one; else byte for byte
    priority: str = ""  # a column; of equal texts the highest value stays

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("id", "date", "text", *filter(None, (self.priority,)))

    def rounds(self) -> tuple[Round, ...]:
        return (Round("texts", self.emit, self.reduce),)

    def emit(self, table: pa.Table, shard: int, side: pa.Table | None = None) -> pa.Table:
        """Each document under the 128-bit hash of its text."""
        digests = [self._digest(text.as_py()) for text in table["text"]]
        key, rest = halves(binary16(digests)).T
        return pa.table({"key": key, "rest": rest, **standing(table, shard, self.priority)})

    def _digest(self, text: str) -> bytes:
        form = " ".join(unicodedata.normalize("NFC", text).split()) if self.normalise else text
        return hashlib.blake2b(form.encode(), digest_size=16).digest()

    def reduce(self, rows: pa.Table) -> pa.Table:
        return one_survivor(self.with_earlier(rows, "exact"))
