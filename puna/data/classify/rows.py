"""Labelled texts in tables: the layouts in which comments that people judged are given on.

Jigsaw's has a column of 0 or 1 for each kind of toxicity, Civil Comments' the share of judges who saw it,
others name the label in a column. What the judges could not agree on is left out.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from puna.errors import ConfigError, DataError, need
from puna.settings import Settings

ENDS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")


class RowLabels(Settings):
    """Which column is the text, and what its label follows from: a `column`, or numbers in `any_of`."""

    text: str = "text"
    column: str = ""  # that names the label
    names: dict[str, str] = {}  # what it says -> the label; other rows are left out. Empty: the label itself
    any_of: tuple[str, ...] = ()  # columns of numbers from 0 to 1
    yes: str = ""  # the label where one of them is `least` or more
    no: str = ""  # the label where all are below `unsure`; what lies between is left out
    least: float = Field(0.5, gt=0, le=1)
    unsure: float = Field(0.5, gt=0, le=1)

    @model_validator(mode="after")
    def one_way_is_given(self) -> "RowLabels":
        given = [bool(one) for one in (not self.column, self.any_of, self.yes, self.no)]
        need(all(given) or not any(given), "rows: give column, or any_of with yes and no", error=ConfigError)
        need(self.unsure <= self.least, "rows: unsure is above least", error=ConfigError)
        return self

    def label(self, row: dict[str, Any], where: str) -> str | None:
        """The label of a row; None where it has none."""
        if self.column:
            need(self.column in row, f"{where}: no column {self.column!r}", error=DataError)
            said = "" if row[self.column] is None else str(row[self.column])
            return (self.names.get(said) if self.names else said) or None
        values = [_number(row, column, where) for column in self.any_of]
        if any(not 0 <= value <= 1 for value in values):
            return None  # Jigsaw's test rows that were not judged say -1
        most = max(values)
        return self.yes if most >= self.least else self.no if most < self.unsure else None


def labelled(path: Path, how: RowLabels) -> Iterator[tuple[int, str, str]]:
    """(number, text, label) of the rows of a file that have both."""
    for number, row in enumerate(_rows(path)):
        where = f"{path}: row {number + 1}"
        need(how.text in row, f"{where}: no column {how.text!r}", f"text = one of {list(row)}", DataError)
        label = how.label(row, where)
        if label and isinstance(row[how.text], str):
            yield number, row[how.text], label


def _number(row: dict[str, Any], column: str, where: str) -> float:
    need(column in row, f"{where}: no column {column!r}", error=DataError)
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        return -1.0  # empty: not judged
    return -1.0 if math.isnan(value) else value


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    need(path.name.endswith(ENDS), f"{path}: none of {', '.join(ENDS)}", error=DataError)
    try:
        if path.name.endswith(".parquet"):
            yield from (row for batch in pq.ParquetFile(path).iter_batches(1000) for row in batch.to_pylist())
            return
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as data:
            lines = io.TextIOWrapper(data, "utf-8-sig", newline="")  # type: ignore[arg-type]
            if ".csv" in path.suffixes:
                yield from csv.DictReader(lines, strict=True)
            else:
                yield from (_object(line, path) for line in lines if line.strip())
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as problem:
        raise DataError(f"{path}: cannot be read: {str(problem)[:200]}") from None


def _object(line: str, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    need(isinstance(row, dict), f"{path}: a line is no JSON object", error=DataError)
    return row
