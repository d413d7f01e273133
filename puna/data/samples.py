"""What a person looks at to believe a report: texts that stayed, texts that went, copies side by side.

All of it is bounded whatever the size of the run: a few dozen files of each step, chosen by the hash of their
names, of them only the columns that are needed, of texts a few row groups. The choice follows from the run's
own files, so a report is the same every time.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna.data.glance import FILES, GROUP_BYTES, chosen, readable, text_size
from puna.data.outline import Line, outline, read_run
from puna.data.pairs import pairs
from puna.data.parquet import text_bytes
from puna.data.pipeline import receipts_of
from puna.data.receipts import Output, Receipt
from puna.data.store import Store
from puna.data.thresholds import column

GROUPS = 6  # row groups of kept documents whose texts are read
OF_REASON = 3  # dropped texts shown
TRIES = 3  # more files that are looked into for a rare reason
KEPT = 9  # kept texts shown
VALUES = 200_000  # measured values of a reason
ABOUT = ["id", "source", "url", "stage", "reason", "value", "sibling"]


def samples(out: str | Path | Store) -> dict[str, Any]:
    """{"kept", "dropped" by reason, "pairs", "values" by reason, "lengths", "clusters"}."""
    store = Store.at(out)
    receipts = receipts_of(store)
    lines = [line for line in outline(read_run(store)) if line.steps and line.map and receipts[line.map]]
    last = receipts[lines[-1].map] if lines else []
    kept_files = chosen([output for receipt in last for output in receipt.kept() if output.rows], FILES)
    dropped: dict[str, Any] = {key: defaultdict(list) for key in ("shown", "values", "sizes")}
    told: Counter[str] = Counter()
    for line in lines:
        _dropped(store, receipts[line.map], dropped)
        for receipt in receipts[line.map]:
            told.update(receipt.drops)
    kept, sizes = _kept(store, kept_files)
    return {
        "kept": kept,
        "dropped": dict(sorted(dropped["shown"].items())),
        "pairs": {line.stage: found for line in lines if (found := pairs(store, receipts[line.map]))},
        "values": _values(store, kept_files, dropped["values"]),
        "lengths": {"kept": sizes, "dropped": _weighted(dropped["sizes"], told)},
        "clusters": _clusters(store, kept_files, lines),
    }


def _dropped(store: Store, receipts: Sequence[Receipt], found: dict[str, Any]) -> None:
    """Adds to `found` what the sidecars of one step show, rare reasons first looked for where they are."""
    outputs = {r.task: [o for o in r.outputs if "/dropped/" in o.name and o.rows] for r in receipts}
    todo = chosen([one for files in outputs.values() for one in files], FILES)
    where: dict[str, list[Output]] = defaultdict(list)
    for receipt in receipts:
        for reason in receipt.drops:
            where[reason] += outputs[receipt.task]
    for files in where.values():
        todo += chosen(files, TRIES)
    for name in dict.fromkeys(one.name for one in todo):
        _sidecar(store, name, found)


def _sidecar(store: Store, name: str, found: dict[str, Any]) -> None:
    with store.open(name) as source:
        file = pq.ParquetFile(source)
        for group in range(min(file.num_row_groups, GROUPS)):
            table = file.read_row_group(group, ["reason", "value"])
            reasons = pc.unique(table["reason"]).to_pylist()
            for reason in reasons:
                values = table.filter(pc.equal(table["reason"], reason))["value"].drop_null().to_numpy()
                if sum(map(len, found["values"][reason])) < VALUES:
                    found["values"][reason].append(values)
            if all(_has_enough(found["shown"][r]) for r in reasons):
                continue
            table = _with_texts(file, group)
            _show(table, found["shown"])
            table = table.filter(pc.is_valid(table["text"]))
            for reason, size in zip(table["reason"].to_pylist(), text_bytes(table).tolist(), strict=True):
                found["sizes"][reason].append(size)


def _with_texts(file: pq.ParquetFile, group: int) -> pa.Table:
    """A row group of a sidecar; without its texts where they are too large to be read."""
    if text_size(file, group) <= GROUP_BYTES:
        return file.read_row_group(group, [*ABOUT, "text"])
    table = file.read_row_group(group, ABOUT)
    return table.append_column("text", pa.nulls(len(table), pa.large_string()))


def _has_enough(rows: list[dict[str, Any]]) -> bool:
    return sum(row["text"] is not None for row in rows) >= OF_REASON


def _show(table: pa.Table, shown: dict[str, list]) -> None:
    """A few documents of each reason, with their texts where the run kept any."""
    order = pa.array(np.argsort(pc.is_null(table["text"]).to_numpy(), kind="stable"))
    table = table.take(order)
    for reason in pc.unique(table["reason"]).to_pylist():
        held = shown[reason]
        some = table.filter(pc.equal(table["reason"], reason)).slice(0, OF_REASON)
        held += readable(some)
        held.sort(key=lambda row: (row["text"] is None, row["id"]))
        del held[OF_REASON:]


def _kept(store: Store, outputs: Sequence[Output]) -> tuple[list[dict[str, Any]], list[int]]:
    """Kept documents by the hash of their ids, sources in turn; the lengths of all that were read."""
    rows: list[dict[str, Any]] = []
    sizes: list[int] = []
    for output in outputs[:GROUPS]:
        with store.open(output.name) as source:
            file = pq.ParquetFile(source)
            group = int(hashlib.sha256(output.sha256.encode()).hexdigest(), 16) % max(file.num_row_groups, 1)
            if not file.num_row_groups or text_size(file, group) > GROUP_BYTES:
                continue
            names = [n for n in ("id", "source", "url", "lang", "text") if n in file.schema_arrow.names]
            table = file.read_row_group(group, names)
        sizes += text_bytes(table).tolist()
        rows += readable(table.sort_by("id").slice(0, KEPT))
    turns: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: row["id"]):
        row["turn"] = turns[row["source"]]
        turns[row["source"]] += 1
    rows.sort(key=lambda row: (row["turn"], row["source"]))
    return [{k: v for k, v in row.items() if k != "turn"} for row in rows[:KEPT]], sizes


def _weighted(sizes: dict[str, list[int]], drops: Counter[str]) -> list[tuple[int, float]]:
    """(bytes, how many documents it stands for) of dropped texts: of each reason only a sample is there."""
    return [(size, drops[reason] / len(some)) for reason, some in sorted(sizes.items()) for size in some]


def _values(store: Store, kept: Sequence[Output], dropped: dict[str, list]) -> dict[str, Any]:
    """For each reason the values measured of dropped documents, and of kept ones where they carry them."""
    columns: dict[str, str] = {}
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for output in kept:
        with store.open(output.name) as source:
            file = pq.ParquetFile(source)
            names = [field.name for field in file.schema_arrow if _is_number(field.type)]
            columns = columns or {reason: at for reason in dropped if (at := column(reason, names))}
            table = file.read([*set(columns.values())]) if columns else pa.table({})
        for name in table.column_names:
            found[name].append(table[name].drop_null().to_numpy().astype(np.float64))
    return {
        reason: {"dropped": np.concatenate(parts).astype(np.float64),
                 "kept": np.concatenate(found[columns[reason]]) if reason in columns else None}
        for reason, parts in sorted(dropped.items())
    }  # fmt: skip


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _clusters(store: Store, kept: Sequence[Output], lines: Sequence[Line]) -> dict[str, dict[int, int]]:
    """For each stage that removes copies: how many kept documents stand for how many each."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    for output in kept:
        with store.open(output.name) as source:
            file = pq.ParquetFile(source)
            notes = {f"n.{line.stage}": line.stage for line in lines[1:]}
            table = file.read([name for name in notes if name in file.schema_arrow.names])
        for name in table.column_names:
            found[notes[name]].update(table[name].drop_null().cast(pa.int64(), safe=False).to_pylist())
    return {stage: dict(sorted(counts.items())) for stage, counts in sorted(found.items()) if counts}
