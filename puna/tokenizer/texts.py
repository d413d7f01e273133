"""The texts of files, a piece at a time: plain text, or JSON lines with a `text` each, gzipped or not.

Each piece read tells an event "read" with the bytes `done` and those `of` all files.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from puna.errors import DataError, need
from puna.log import event

PIECE = 2**20  # bytes of plain text read at a time, more than a character, and then the rest of the line
LINE = 2**26  # most bytes of a JSON line


def texts(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(file, text) of each document, or piece of a plain text, in order."""
    paths = list(paths)
    need(paths, "no files to read", error=DataError)
    for path in paths:
        need(path.is_file(), f"{path}: no such file", "text files, or .jsonl", DataError)
    done, of = 0, sum(path.stat().st_size for path in paths)
    for path in paths:
        packed = path.suffix == ".gz"
        is_lines = path.with_suffix("").suffix == ".jsonl" if packed else path.suffix == ".jsonl"
        try:
            with open(path, "rb") as raw:
                file = gzip.GzipFile(fileobj=raw) if packed else raw
                for text in _lines(file, path) if is_lines else _pieces(file, path):
                    yield str(path), text
                    event("read", done=done + raw.tell(), of=of)
                done += raw.tell()
        except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
            raise DataError(f"{path}: not whole gzip data ({problem})") from None


def _pieces(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[str]:
    at, rest = 0, b""
    while data := rest + file.read(PIECE):
        last = len(data) < PIECE
        end = len(data) if last else _end_of_line(data)
        yield _decoded(data[:end], path, at)
        at, rest = at + end, data[end:]


def _end_of_line(data: bytes) -> int:
    """Behind the last line break; in a line without end, before a character."""
    end = data.rfind(b"\n") + 1
    if not end:
        end = len(data)
        while end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:
            end -= 1
        end -= data[end - 1] >= 0xC0
    return end


def _lines(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE + 1):
        number += 1
        need(len(line) <= LINE, f"{path}: line {number:,} is over {LINE // 2**20} MiB", error=DataError)
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}: line {number:,} is not JSON") from None
        text = row.get("text") if isinstance(row, dict) else None
        need(isinstance(text, str), f"{path}: line {number:,} has no `text`", error=DataError)
        assert isinstance(text, str)
        yield text


def _decoded(data: bytes, path: Path, at: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        where = f"byte {at + problem.start:,}"
        raise DataError(f"{path}: not UTF-8 text ({problem.reason} at {where})") from None
