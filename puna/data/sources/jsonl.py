"""JSON lines: a document a line, in files that may be gzip or Zstandard; which field holds what is a setting.

A plain file is cut into pieces at byte offsets: a line belongs to the piece where its first byte is.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from pydantic import Field

from puna.data.document import make_id
from puna.data.place import cut, parted, size_of
from puna.data.sources.files import BROKEN, CHUNK, Place, find, key, lines, one_key_each, opened
from puna.data.sources.reading import Reading, Row, clean, host


class Jsonl(Reading):
    """Documents of .jsonl, .jsonl.gz, .jsonl.zst (and .json.*) files. A field is a key, or keys with dots."""

    text: str = "text"
    id: str = ""  # where "", the line's place names the document
    url: str = "url"
    date: str = "date"
    licence: str = "licence"
    piece_bytes: int = Field(default=256 << 20, ge=1)  # of a plain file

    def inputs(self) -> tuple[str, ...]:
        ends = tuple(
            f".{kind}{packed}" for kind in ("jsonl", "json", "ndjson") for packed in ("", ".gz", ".zst")
        )
        found = find(self.paths, ends)
        one_key_each(self.paths, found)
        return tuple(piece for at in found for piece in self._cut(at))

    def _cut(self, at: Place) -> Iterator[str]:
        size = size_of(at)
        if at.name.endswith((".gz", ".zst")) or size <= self.piece_bytes:
            yield str(at)
        else:
            yield from (cut(at, str(start)) for start in range(0, size, self.piece_bytes))

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        path, part = parted(piece)
        start = int(part) if part.isdecimal() else None
        name = key(self.paths, path)
        with opened(path) as stream:
            try:
                for place, line in _from(stream, start, self.piece_bytes, self.document_bytes):
                    row = self._row(f"{name}:{place}", line, skipped)
                    if row is not None:
                        yield row
            except BROKEN:
                skipped["damaged"] += 1  # and what follows in this file is lost

    def _row(self, place: str, line: bytes | None, skipped: Counter[str]) -> Row | None:
        if line is None:
            skipped["too_long"] += 1
            return None
        if not line.strip():
            return None
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            skipped["malformed"] += 1
            return None
        text = _field(values, self.text)
        if not text or not isinstance(text, str):
            skipped["no_text"] += 1
            return None
        url, date, licence = (_said(values, at) for at in (self.url, self.date, self.licence))
        named = _said(values, self.id) or place
        row: Row = {"id": make_id(self.name, named), "source": self.name, "url": url, "date": date}
        return row | {"text": clean(text), "host": host(url), "licence": licence or None}


def _from(stream: BinaryIO, start: int | None, size: int, most: int) -> Iterator[tuple[int, bytes | None]]:
    """(place, line) of the lines that begin in [start, start + size), or of all; places are byte offsets."""
    place = start or 0
    if start:
        stream.seek(start - 1)
        place += _to_next_line(stream) - 1
    for length, line in lines(stream, most):
        if start is not None and place >= start + size:
            return
        yield place, line
        place += length


def _to_next_line(stream: BinaryIO) -> int:
    """Read on behind the next end of a line; how many bytes that took."""
    length = 0
    while part := stream.readline(CHUNK):
        length += len(part)
        if part.endswith(b"\n"):
            break
    return length


def _field(values: Any, path: str) -> Any:
    """The value at a key, or at keys with dots."""
    for step in path.split("."):
        values = values.get(step) if isinstance(values, dict) else None
    return values


def _said(values: Any, path: str) -> str:
    value = _field(values, path) if path else None
    return clean(str(value)) if isinstance(value, str | int) else ""
