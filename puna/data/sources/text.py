"""Plain text: a document a file, or a document a paragraph between blank lines."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO, Literal

from puna.data.document import make_id
from puna.data.extract.charset import decode
from puna.data.place import located
from puna.data.sources.files import BROKEN, files_of, folders, key, lines, one_key_each, opened, root_of
from puna.data.sources.reading import Reading, Row, clean

ENDINGS = (".txt", ".txt.gz", ".txt.zst")


class Text(Reading):
    """Text files; each folder that holds some is a piece, and each file that the recipe names is one."""

    split: Literal["file", "blank_lines"] = "file"
    endings: tuple[str, ...] = ENDINGS

    def inputs(self) -> tuple[str, ...]:
        return one_key_each(self.paths, folders(self.paths, self.endings))

    def rows(self, piece: str, skipped: Counter[str]) -> Iterator[Row]:
        here = located(piece)
        root = root_of(self.paths, here)
        for path in files_of(here, root, self.endings) if here.is_dir() else [here]:
            name = key(self.paths, path)
            try:
                with opened(path) as stream:
                    for place, data in self._parts(stream, skipped):
                        yield self._row(name, f"{name}{place}", data)
            except BROKEN:
                skipped["damaged"] += 1

    def _parts(self, stream: BinaryIO, skipped: Counter[str]) -> Iterator[tuple[str, bytes]]:
        """(what it is called in the file, bytes) of each document."""
        if self.split == "blank_lines":
            yield from _paragraphs(stream, self.document_bytes, skipped)
            return
        data = stream.read(self.document_bytes + 1)
        if len(data) > self.document_bytes:
            skipped["too_long"] += 1
        elif data.strip():
            yield "", data

    def _row(self, url: str, named: str, data: bytes) -> Row:
        text = clean(decode(data).replace("\r\n", "\n"))
        made = make_id(self.name, named)
        return {"id": made, "source": self.name, "url": url, "date": "", "text": text, "mime": "text/plain"}


def _paragraphs(stream: BinaryIO, most: int, skipped: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """Lines up to a blank one, called by the number of the first; one that grows too long is passed over."""
    held: list[bytes] = []
    size, first = 0, 0
    for number, (length, line) in enumerate(chain(lines(stream, most), [(0, b"")])):
        if line is None or line.strip():
            first = first if size else number
            size += length
            if line is None or size > most:
                held.clear()
            else:
                held.append(line)
        elif size:
            if size > most:
                skipped["too_long"] += 1
            else:
                yield f"#{first}", b"".join(held).rstrip()
            held, size = [], 0
