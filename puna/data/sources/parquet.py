"""Parquet files: which column holds what is a setting; row groups make pieces of about equal bytes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from puna.data.document import make_id
from puna.data.place import at_once, cut, open_bytes, parted
from puna.data.sources.files import Place, find, key, one_key_each
from puna.data.sources.reading import Reading, Row, clean, host
from puna.errors import DataError, need


class Parquet(Reading):
    """Documents of .parquet files."""

    text: str = "text"
    id: str = ""  # where "", the row's place names the document
    url: str = "url"
    date: str = "date"
    licence: str = "licence"
    piece_bytes: int = Field(default=256 << 20, ge=1)  # of row groups, uncompressed
    read_rows: int = Field(default=256, ge=1)  # at once; bounds memory where documents are long

    def inputs(self) -> tuple[str, ...]:
        found = find(self.paths, (".parquet",))
        one_key_each(self.paths, found)
        return tuple(piece for cut in at_once(self._cut, found) for piece in cut)

    def _cut(self, path: Place) -> list[str]:
        """`path` or `path@first-last`, row groups counted from 0, the last one included."""
        with _opened(path) as file:
            sizes = [file.metadata.row_group(g).total_byte_size for g in range(file.num_row_groups)]
        if sum(sizes) <= self.piece_bytes or len(sizes) == 1:
            return [str(path)]
        pieces, first, held = [], 0, 0
        for group, size in enumerate(sizes):
            if held and held + size > self.piece_bytes:
                pieces.append(cut(path, f"{first}-{group - 1}"))
                first, held = group, 0
            held += size
        return [*pieces, cut(path, f"{first}-{len(sizes) - 1}")]

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        path, part = parted(piece)
        with _opened(path) as file:
            names = set(file.schema_arrow.names)
            need(
                self.text in names,
                f"{path}: no column {self.text!r}",
                f"text = one of {sorted(names)}",
                DataError,
            )
            wanted = [n for n in (self.text, self.id, self.url, self.date, self.licence) if n in names]
            first, _, last = part.partition("-")
            groups = range(int(first), int(last) + 1) if last else range(file.num_row_groups)
            place = sum(file.metadata.row_group(g).num_rows for g in range(groups.start))
            try:
                for batch in file.iter_batches(self.read_rows, list(groups), list(dict.fromkeys(wanted))):
                    yield from self._rows(f"{key(self.paths, path)}:", place, batch, skipped)
                    place += batch.num_rows
            except (pa.ArrowException, OSError) as problem:
                raise DataError(f"{path}: damaged: {str(problem)[:200]}") from None

    def _rows(self, name: str, start: int, batch: pa.RecordBatch, skipped: Counter[str]) -> Iterator[Row]:
        for place, values in enumerate(_values(batch), start):
            if values is None:
                skipped["malformed"] += 1
                continue
            text = values[self.text]
            if not text or not isinstance(text, str) or len(text) > self.document_bytes:
                skipped["too_long" if isinstance(text, str) and text else "no_text"] += 1
                continue
            url, date, licence = (_said(values, at) for at in (self.url, self.date, self.licence))
            made = make_id(self.name, _said(values, self.id) or f"{name}{place}")
            row: Row = {"id": made, "source": self.name, "url": url, "date": date, "text": clean(text)}
            yield row | {"host": host(url), "licence": licence or None}


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """The rows; None for one that says what it is not: strings that are no UTF-8, times after 9999."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        half = batch.num_rows // 2
        return _values(batch.slice(0, half)) + _values(batch.slice(half)) if half else [None]


def _opened(path: Place) -> pq.ParquetFile:
    try:
        stream = open_bytes(path)
        return pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{path}: not a Parquet file: {str(problem)[:200]}") from None


def _said(values: dict[str, Any], name: str) -> str:
    """A value as text; a time in ISO 8601."""
    value = values.get(name)
    if value is None:
        return ""
    return clean(value.isoformat() if hasattr(value, "isoformat") else str(value))
