"""Labels on disk, one JSON object a line: what is there is not asked again, and half a line is cut off."""

import heapq
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from puna import log
from puna.data.classify.labels import Ask, LabelPrompt, label
from puna.data.document import SCHEMA
from puna.data.pipeline import result
from puna.data.sources.jsonl import Jsonl
from puna.data.sources.parquet import Parquet
from puna.data.sources.reading import Reading
from puna.data.sources.text import Text
from puna.errors import DataError, need

NOTHING = "none of the allowed"
_ROWS = 256  # of a Parquet file, read at once
_READERS: dict[str, type[Reading]] = {".parquet": Parquet, ".txt": Text, ".txt.gz": Text, ".txt.zst": Text}


def documents_of(paths: Iterable[Path], source: str = "texts") -> Iterator[tuple[bytes, str]]:
    """(id, text) of runs, of Parquet, JSON lines and text files. A run's documents keep their ids; others
    get those that a recipe's source of this name would give them.
    """
    for path in paths:
        need(path.exists(), f"{path}: no such file or folder", error=DataError)
        if (path / "run.json").is_file():
            for name in result(path):
                yield from _written(name)
        elif path.suffix == ".parquet" and _is_ours(path):
            yield from _written(str(path))
        else:
            ends = (end for end in _READERS if path.name.endswith(end))
            reader = _READERS.get(next(ends, ""), Jsonl)(name=source, paths=(str(path),))
            for piece in reader.inputs():
                for table in reader.tables(piece):
                    yield from zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)


def some(documents: Iterable[tuple[bytes, str]], most: int | None) -> Iterator[tuple[bytes, str]]:
    """All of them in their order, or the `most` with the least ids: a sample that stays the same."""
    yield from documents if most is None else heapq.nsmallest(most, documents)


def label_all(
    documents: Iterable[tuple[bytes, str]],
    how: LabelPrompt,
    ask: Ask,
    path: Path,
    made_by: dict[str, str],
    of: int,
    with_text: bool = False,
) -> Counter[str]:
    """Ask about every document that has no label in the file yet, and write each answer when it comes.

    made_by: who answers; with the prompt's fingerprint it stands in every row. The answer: how many of each
    label the file has, and under NOTHING how many answers were none of the allowed.
    """
    made_by = {"prompt_sha256": how.fingerprint(), **made_by}
    counts: Counter[str] = Counter()
    done = {row["id"]: row["label"] for row in _done(path, made_by)}
    counts.update(NOTHING if one is None else one for one in done.values())
    with path.open("a", encoding="utf-8") as file:
        for key, text in documents:
            if key.hex() in done:
                continue
            row = {"id": key.hex(), **label(text, how, ask), **made_by}
            said = json.dumps(row | ({"text": how.seen(text)} if with_text else {}), ensure_ascii=False)
            file.write(f"{said}\n")
            file.flush()
            done[key.hex()] = row["label"]
            counts[NOTHING if row["label"] is None else row["label"]] += 1
            log.event("label", done=len(done), of=of)
    return counts


def _done(path: Path, made_by: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The rows that are there, after a last line without its end is cut off."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        whole = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield _row(line, f"{path}:{number}", made_by)
    os.truncate(path, whole)


def _row(line: bytes, where: str, made_by: dict[str, str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    good = isinstance(row, dict) and isinstance(row.get("id"), str) and "label" in row
    need(good, f"{where}: not a row of labels", "another --out", DataError)
    differ = [name for name, value in made_by.items() if row.get(name) != value]
    what = f"{where}: its label has another {' and '.join(differ)}"
    need(not differ, what, "another --out: labels of one file come from one prompt and model", DataError)
    return row


def _is_ours(path: Path) -> bool:
    try:
        names = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return False  # the reader says what is wrong with it
    return all(field.name in names.names and names.field(field.name).type == field.type for field in SCHEMA)


def _written(name: str) -> Iterator[tuple[bytes, str]]:
    with pq.ParquetFile(name) as file:
        for batch in file.iter_batches(_ROWS, columns=["id", "text"]):
            yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
