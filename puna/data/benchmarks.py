"""Benchmarks as texts: the questions and answers that training data must not hold.

Read from files that whoever runs this has; none come with Puna.
"""

import csv
import gzip
import io
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from puna.errors import ConfigError, DataError, need
from puna.settings import Settings

_MOST_BYTES = 1 << 30  # of one file, unpacked

_MOST_WAYS = 1000  # to join the fields of one item

# What to read of a known benchmark: each entry is one text, of fields joined by spaces; a field that is a
# list stands for each of its members.
KNOWN: dict[str, tuple[tuple[str, ...], ...]] = {
    "mmlu": (("question",), ("choice0",), ("choice1",), ("choice2",), ("choice3",)),
    "gsm8k": (("question",), ("answer",)),
    "mbpp": (("text",), ("code",)),
    "humaneval": (("prompt",), ("canonical_solution",)),
    "arc_easy": (("query",), ("choices",)),
    "piqa": (("query",), ("choices",)),
    "winogrande": (("context_options", "continuation"),),
    "ifeval": (("prompt",),),
}
_LEAD = "Question:"  # which some files put before every question, and nobody else


class Benchmark(Settings):
    """Where a benchmark lies and what of it is text."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")  # the reason code is decontaminate.<name>
    path: str  # a .jsonl, .jsonl.gz or .csv file with a header, or a folder of such
    fields: tuple[tuple[str, ...], ...] = ()  # as in KNOWN; empty: as KNOWN has it


@dataclass(frozen=True)
class Item:
    """One question of a benchmark with all that belongs to it."""

    benchmark: str
    number: int
    texts: tuple[str, ...]


def read_benchmark(benchmark: Benchmark) -> Iterator[Item]:
    """Its items in the order of its files; DataError where a file is not what it should be."""
    fields = benchmark.fields or KNOWN.get(benchmark.name, ())
    fix = f"give fields, or name it one of {', '.join(KNOWN)}"
    need(
        fields, f"benchmark {benchmark.name!r}: it is not known which fields are text", fix, error=ConfigError
    )
    number = 0
    for path in _files(Path(benchmark.path)):
        for row in _rows(path):
            texts = tuple(text for joined in fields for text in _texts(row, joined, path))
            yield Item(benchmark.name, number, texts)
            number += 1
    need(number, f"{benchmark.path}: no item of {benchmark.name}", error=DataError)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.name.endswith((".jsonl", ".jsonl.gz", ".csv")))
        need(found, f"{path}: no .jsonl, .jsonl.gz or .csv file in it", error=DataError)
        return found
    need(path.is_file(), f"{path}: there is no such file", error=DataError)
    return [path]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    text = _unpacked(path)
    if path.name.endswith(".csv"):
        try:
            yield from csv.DictReader(io.StringIO(text, newline=""), strict=True)
        except csv.Error as problem:
            raise DataError(f"{path}: not CSV: {problem}") from None
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise DataError(f"{path}:{number}: not JSON") from None
            need(isinstance(row, dict), f"{path}:{number}: not a JSON object", error=DataError)
            yield row


def _unpacked(path: Path) -> str:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError) as problem:
        raise DataError(f"{path}: cannot be read: {problem}") from None
    need(len(data) <= _MOST_BYTES, f"{path}: more than {_MOST_BYTES:,} bytes", error=DataError)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8") from None


def _texts(row: dict[str, Any], joined: tuple[str, ...], path: Path) -> Iterator[str]:
    """Every way to join the fields; one way, unless some are lists."""
    choices = []
    for field in joined:
        value = row.get(field)
        members = value if isinstance(value, list) else [value]
        good = all(isinstance(one, str) for one in members)
        need(good, f"{path}: field {field!r} is not text: {str(value)[:60]}", error=DataError)
        choices.append(members)
    ways = math.prod(len(members) for members in choices)
    need(ways <= _MOST_WAYS, f"{path}: {ways} ways to join {', '.join(joined)}", error=DataError)
    for parts in itertools.product(*choices):
        yield " ".join(parts).removeprefix(_LEAD)
