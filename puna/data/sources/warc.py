"""Web archives: WARC files hold what servers answered, WET files the text that somebody took from it.

Pages become text while they are read: their HTML is ten to forty times as long, and would pass through every
table, file and cache after this. A damaged member of a compressed archive costs its own records only: reading
goes on where the next one begins.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from puna.data.document import make_id
from puna.data.extract.page import Extract
from puna.data.filters.optout import signals
from puna.data.place import located, open_bytes
from puna.data.sources.files import CHUNK, Place, find, one_key_each
from puna.data.sources.licences import licence_of_link
from puna.data.sources.reading import Reading, Row, clean, host

HTML = ("text/html", "application/xhtml+xml")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LOOKS = re.compile(rb"\s*(<!--.{0,500}?-->\s*)?<(!doctype html|html|head|body|title)\b", re.I | re.S)
RECORD = re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|WARC/1\.[01]\r\n")  # where a record may begin
HEADERS = 32 << 10  # bytes of headers that a record may have
DAMAGES = 10_000  # places in one file after which it is given up


class Warc(Reading):
    """Pages of HTML among the responses in WARC files (.warc, .warc.gz, .warc.zst)."""

    version: ClassVar[int] = 2  # extraction by our own rules
    extract: Extract = Extract()
    statuses: tuple[int, ...] = (200,)  # of HTTP; records with another are skipped

    def inputs(self) -> tuple[str, ...]:
        return one_key_each(self.paths, find(self.paths, (".warc", ".warc.gz", ".warc.zst")))

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        for record in _records(located(piece), WarcRecordType.response, skipped):
            row = self._page(record, skipped)
            if row is not None:
                yield row

    def _page(self, record: WarcRecord, skipped: Counter[str]) -> Row | None:
        said = record.http_headers.status_code if record.is_http_parsed else None
        if said is None or said not in self.statuses:
            skipped["malformed" if said is None else "status"] += 1
            return None
        body = _body(record, self.document_bytes, skipped)
        if body is None:
            return None
        mime = _mime(record, body)
        if mime not in HTML:
            skipped["not_html"] += 1
            return None
        page = self.extract.page(body, record.http_charset)
        if page.refused:
            skipped[page.refused] += 1
            return None
        row = _row(self.name, record, page.text) | {"mime": mime, "status": said}
        row["licence"] = licence_of_link(page.licence) if page.licence else None
        tdm = [*_header(record, "tdm-reservation").splitlines(), page.tdm]
        reserved = "1" if "1" in tdm else tdm[0]
        return row | signals(_header(record, "x-robots-tag"), page.robots, reserved)


class Wet(Reading):
    """The plain text of pages in WET files."""

    def inputs(self) -> tuple[str, ...]:
        return one_key_each(self.paths, find(self.paths, (".wet", ".wet.gz", ".wet.zst")))

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        for record in _records(located(piece), WarcRecordType.conversion, skipped):
            body = _body(record, self.document_bytes, skipped)
            if body is not None:
                text = body.decode("utf-8", "replace")
                yield _row(self.name, record, clean(text)) | {"mime": "text/plain"}


def _row(source: str, record: WarcRecord, text: str) -> Row:
    """A document named by its address, its date and the record's own id."""
    url, date = (clean(record.headers.get(name) or "") for name in ("WARC-Target-URI", "WARC-Date"))
    url = url.strip("<>")  # older versions of wget write brackets
    row_id = make_id(source, f"{url} {date} {record.record_id or ''}")
    date = date if DATE.fullmatch(date) else ""
    return {"id": row_id, "source": source, "url": url, "date": date, "text": text, "host": host(url)}


def _mime(record: WarcRecord, body: bytes) -> str:
    """What the page is: as its server says, else as the archive says, else as it looks."""
    said = record.http_content_type or record.headers.get("WARC-Identified-Payload-Type")
    if not said:
        return HTML[0] if LOOKS.match(body) else ""
    return said.partition(";")[0].strip().lower()


def _body(record: WarcRecord, most: int, skipped: Counter[str]) -> bytes | None:
    """The record's payload; a decompression bomb is left as soon as it has given one byte too many."""
    length = record.content_length
    try:
        body = record.reader.read(most + 1)
    except OSError:
        skipped["malformed"] += 1
        return None
    coded = record.is_http_parsed and ({"content-encoding", "transfer-encoding"} & _names(record))
    short = len(body) < length and len(body) <= most and not coded
    if len(body) > most or short or not body:
        skipped["too_long" if len(body) > most else "truncated" if short else "empty"] += 1
        return None
    return body


def _header(record: WarcRecord, name: str) -> str:
    """All headers of HTTP of this name, one a line."""
    found = (value for key, value in record.http_headers.to_tuples() if key.lower() == name)
    return clean("\n".join(" ".join(value.split()) for value in found))


def _names(record: WarcRecord) -> set[str]:
    return {name.lower() for name, _ in record.http_headers.to_tuples()}


def _records(at: Place, kind: WarcRecordType, skipped: Counter[str]) -> Iterator[WarcRecord]:
    """Records of one kind; after damage, from the next place where one begins."""
    with open_bytes(at) as stream:
        start: int | None = 0
        while start is not None and skipped["damaged"] < DAMAGES:
            stream.seek(start)
            last = start
            try:
                for record in ArchiveIterator(stream, kind, auto_decode="all", max_header_len=HEADERS):
                    last = record.stream_pos
                    yield record
                return
            except OSError:
                skipped["damaged"] += 1
            start = _next(stream, last + 1)


def _next(stream: BinaryIO, start: int) -> int | None:
    """The first place at or after `start` where a record may begin."""
    stream.seek(start)
    kept = b""
    while block := stream.read(CHUNK):
        found = RECORD.search(kept + block)
        if found:
            return start - len(kept) + found.start()
        start += len(block)
        kept = block[-16:]
    return None
