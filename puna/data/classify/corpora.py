"""Labelled texts: files whose kind is known by their place, texts spoilt on purpose, rows that were judged.

A classifier's recipe names such corpora. What is read depends on the files alone, and every choice among
pieces is a hash, so whoever has the same files learns the same classifier.
"""

import fnmatch
import gzip
import hashlib
import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from resiliparse.extract.html2text import extract_plain_text

from puna.data.classify.rows import ENDS, RowLabels, labelled
from puna.data.document import make_id
from puna.errors import ConfigError, DataError, need
from puna.settings import Settings

_MOST_BYTES = 64 << 20  # of a file, unpacked
_MENU_LINE = 100  # characters; a longer line outside the main text may well be a sentence that was missed


class Corpus(Settings):
    """Files of one label; whatever lies below `path` and fits `files`."""

    name: str
    label: str = ""  # of all its texts
    rows: RowLabels | None = None  # or: its files are tables, and each row says its own
    path: str  # a folder or a file, from the root that the recipe is run with
    files: tuple[str, ...] = ("*",)  # patterns for the path below `path`; * spans folders
    without: tuple[str, ...] = ()  # patterns for what is left out
    holds: str = ""  # only files that hold this
    form: Literal["text", "page", "rest"] = "text"  # page: the main text of HTML; rest: all that is not
    spoil: Literal["", "shuffle", "repeat", "keywords"] = ""  # what is done to each piece
    most: int = Field(2000, ge=1)  # pieces; of tables, of each label
    if_there: bool = False  # left out, and said so, where nothing lies at `path`
    held_out: bool = False  # only measures; never learnt from
    licence: str  # of the texts, for the lineage of what is learnt from them

    @model_validator(mode="after")
    def its_label_is_known(self) -> "Corpus":
        good = bool(self.label) != bool(self.rows) and not (self.rows and (self.form != "text" or self.spoil))
        need(good, f"corpus {self.name}: give a label, or rows as they are", error=ConfigError)
        return self


@dataclass(frozen=True)
class Piece:
    id: bytes
    text: str
    label: str
    corpus: str


def read_corpus(corpus: Corpus, root: str | Path, characters: int, least: int) -> list[Piece]:
    """At most `most` pieces of least to `characters` characters, chosen by the hashes of their ids."""
    if corpus.rows:
        return _judged(corpus, corpus.rows, Path(root), characters, least)
    found = []
    for path in _files(Path(root) / corpus.path, corpus):
        text = _read(path)
        if corpus.holds not in text:
            continue
        name = path.relative_to(root).as_posix()
        for number, piece in enumerate(_pieces(_formed(text, corpus.form), characters, least)):
            found.append((make_id(corpus.name, f"{name}#{number}"), piece))
    need(found, f"{corpus.name}: no text in {Path(root) / corpus.path}", error=DataError)
    chosen = sorted(found)[: corpus.most]
    return [Piece(key, spoilt(text, corpus.spoil, key), corpus.label, corpus.name) for key, text in chosen]


def _judged(corpus: Corpus, rows: RowLabels, root: Path, characters: int, least: int) -> list[Piece]:
    """Rows of tables; no more than `most` of each label are ever held."""
    held: dict[str, list[tuple[int, str]]] = {}
    for path in _files(root / corpus.path, corpus):
        name = path.relative_to(root).as_posix()
        for number, text, label in labelled(path, rows):
            text = text.strip()[:characters]
            if len(text) < least:
                continue
            key = int.from_bytes(make_id(corpus.name, f"{name}#{number}"), "big")
            kept = held.setdefault(label, [])
            put = heapq.heappush if len(kept) < corpus.most else heapq.heappushpop
            put(kept, (-key, text))  # the greatest key goes first
    need(held, f"{corpus.name}: no row with a label in {root / corpus.path}", error=DataError)
    pieces = [Piece((-key).to_bytes(16, "big"), text, label, corpus.name)
              for label, kept in held.items() for key, text in kept]  # fmt: skip
    return sorted(pieces, key=lambda piece: piece.id)


def spoilt(text: str, how: str, key: bytes) -> str:
    """The text as nobody would write it; `key` decides what a random number would."""
    words = text.split()
    if not how or not words:
        return text
    order = sorted(range(len(words)), key=lambda at: hashlib.blake2b(key + at.to_bytes(8, "big")).digest())
    if how == "shuffle":
        return " ".join(words[at] for at in order)
    if how == "repeat":  # a few phrases again and again
        starts = order[: 2 + key[0] % 4]
        phrases = [" ".join(words[at : at + 2 + key[1] % 4]) for at in starts]
        return "\n".join(phrases[at % len(phrases)] for at in range(8 + key[2] % 24))
    longest = sorted({word for word in words if len(word) > 4}, key=lambda word: (-len(word), word))
    return ", ".join(longest[: 10 + key[0] % 40] or words)  # keywords for search engines


def _files(path: Path, corpus: Corpus) -> list[Path]:
    need(path.exists(), f"{corpus.name}: {path}: no such file or folder", error=DataError)
    if path.is_file():
        return [path]
    ends = ENDS if corpus.rows else ("",)
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            below = (Path(folder) / name).relative_to(path).as_posix()
            wanted = name.endswith(ends) and any(fnmatch.fnmatchcase(below, one) for one in corpus.files)
            if wanted and not any(fnmatch.fnmatchcase(below, one) for one in corpus.without):
                found.append(Path(folder) / name)
    need(found, f"{corpus.name}: no file {', '.join(corpus.files)} in {path}", error=DataError)
    return sorted(found)


def _read(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix in (".gz", ".dz") else path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except (OSError, EOFError) as problem:
        raise DataError(f"{path}: cannot be read: {problem}") from None


def _formed(text: str, form: str) -> str:
    if form == "text":
        return text
    main = extract_plain_text(text, main_content=True)
    if form == "page":
        return main
    known = {line.strip() for line in main.split("\n")}
    every = extract_plain_text(text, main_content=False, alt_texts=False).split("\n")
    return "\n".join(line for line in every if line.strip() not in known and len(line) <= _MENU_LINE)


def _pieces(text: str, characters: int, least: int) -> Iterator[str]:
    """The text in pieces that end where a line ends, if the line is no longer than a piece."""
    held: list[str] = []
    size = 0
    for line in text.split("\n"):
        for start in range(0, max(len(line), 1), characters):
            part = line[start : start + characters]
            if size + len(part) > characters:
                yield from _long_enough(held, least)
                held, size = [], 0
            held.append(part)
            size += len(part) + 1
    yield from _long_enough(held, least)


def _long_enough(lines: list[str], least: int) -> Iterator[str]:
    piece = "\n".join(lines).strip()
    if len(piece) >= least:
        yield piece
