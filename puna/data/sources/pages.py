"""Saved pages: HTML files in folders and in zips. A folder is one piece, a zip is one.

Nothing is unpacked to disk. A name in a zip is only a name: one that climbs out of its archive is skipped.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import ClassVar

from puna.data.document import make_id
from puna.data.extract.page import Extract
from puna.data.filters.optout import signals
from puna.data.place import located, open_bytes
from puna.data.sources.files import Place, files_of, folders, key, one_key_each, root_of
from puna.data.sources.licences import licence_of_link
from puna.data.sources.reading import Reading, Row
from puna.errors import DataError

ENDINGS = (".html", ".htm", ".xhtml")


class Pages(Reading):
    """HTML files in folders (each folder below them is a piece) and zips."""

    version: ClassVar[int] = 2  # extraction by our own rules
    extract: Extract = Extract()

    def inputs(self) -> tuple[str, ...]:
        return one_key_each(self.paths, folders(self.paths, (*ENDINGS, ".zip"), alone=".zip"))

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        at = located(piece)
        named = self._zipped if at.name.lower().endswith(".zip") else self._saved
        for name, date, data in named(at, self.document_bytes, skipped):
            page = self.extract.page(data, None)
            if page.refused:
                skipped[page.refused] += 1
                continue
            made: Row = {"id": make_id(self.name, name), "source": self.name, "url": name, "date": date}
            made |= {"text": page.text, "mime": "text/html"}
            made["licence"] = licence_of_link(page.licence) if page.licence else None
            yield made | signals("", page.robots, page.tdm)

    def _saved(self, here: Place, most: int, skipped: Counter[str]) -> Iterator[tuple[str, str, bytes]]:
        """(name, date, bytes) of every page in a folder, or of one page."""
        for at in files_of(here, root_of(self.paths, here), ENDINGS) if here.is_dir() else [here]:
            with open_bytes(at) as stream:
                data = stream.read(most + 1)
            if len(data) > most:
                skipped["too_long"] += 1
            else:
                yield key(self.paths, at), "", data

    def _zipped(self, at: Place, most: int, skipped: Counter[str]) -> Iterator[tuple[str, str, bytes]]:
        try:
            with open_bytes(at) as stream, zipfile.ZipFile(stream) as archive:
                for entry in _entries(archive, skipped):
                    data = _bytes(archive, entry, most, skipped)
                    if data is not None:
                        yield f"{key(self.paths, at)}/{entry.filename}", _date(entry), data
        except (zipfile.BadZipFile, OSError) as problem:
            raise DataError(f"{at}: not a zip that can be read: {problem}") from None


def _entries(archive: zipfile.ZipFile, skipped: Counter[str]) -> Iterator[zipfile.ZipInfo]:
    """Pages by name, each kept in bytes of its own: zips that grow by reading one place twice end here."""
    end = 0
    entries = sorted(archive.infolist(), key=lambda entry: (entry.header_offset, entry.filename))
    for entry in entries:
        before, end = end, max(end, entry.header_offset + 30 + entry.compress_size)
        if entry.is_dir() or not entry.filename.lower().endswith(ENDINGS):
            continue
        reason = "overlapping" if entry.header_offset < before else _unsafe(entry)
        if reason:
            skipped[reason] += 1
        else:
            yield entry


def _unsafe(entry: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(entry.filename)
    strange = "\\" in entry.filename or not entry.filename.isprintable()
    if path.is_absolute() or ".." in path.parts or strange:
        return "unsafe_name"
    return "encrypted" if entry.flag_bits & 1 else None


def _bytes(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int, skipped: Counter[str]
) -> bytes | None:
    """An entry's bytes, whatever length it claims."""
    try:
        with archive.open(entry) as stream:
            data = stream.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError):
        skipped["damaged"] += 1
        return None
    if len(data) > most:
        skipped["too_long"] += 1
        return None
    return data


def _date(entry: zipfile.ZipInfo) -> str:
    try:
        return datetime(*entry.date_time, tzinfo=UTC).strftime("%Y-%m-%d")
    except ValueError:  # the thirtieth of February
        return ""
