"""Where did a document go? What differs between two runs? Answers from a run's own files: receipts say how
many, sidecars say which.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from puna.data.glance import GROUP_BYTES, readable, text_size
from puna.data.outline import Line, outline, read_run
from puna.data.parquet import read_table
from puna.data.pipeline import last_kept, receipts_of
from puna.data.receipts import Receipt
from puna.data.store import Store
from puna.data.thresholds import threshold

EXAMPLES = 20
IDS = 20_000_000  # that a comparison holds at once
ANSWERS = 50  # documents of one address that are told of
HANDS = 8  # files that are looked into at a time


def explain(out: str | Path | Store, wanted: str) -> list[dict[str, Any]]:
    """What became of each document with this id (32 hex digits) or address.

    {"dropped": step, "id", "url", "stage", "reason", "value", "threshold", "settings", "sibling",
    "kept_instead": the sibling with its address and the beginning of its text, ...}, or {"kept": file, "id",
    "url"} with all its attributes: in mode `annotate` each gate's verdict.
    """
    store = Store.at(out)
    receipts, run = receipts_of(store), read_run(store)
    lines = outline(run)
    maps = list(dict.fromkeys(line.map for line in lines if line.map and receipts[line.map]))
    found: dict[str, dict[str, Any]] = {}
    is_id = len(wanted) == 32 and not set(wanted) - set("0123456789abcdef")
    for column in ("id", "url") if is_id else ("url",):
        key = bytes.fromhex(wanted) if column == "id" else wanted
        for name, row in _everywhere(store, maps, receipts, column, key):
            step = name.partition("/")[0]
            fate = {"kept": name} if "/kept/" in name else {"dropped": step} | _why(lines, step, row)
            found.setdefault(row["id"], row | fate)
            if len(found) >= ANSWERS:
                break
        if found:
            break
    return [fate if "kept" in fate else _with_sibling(store, fate, receipts) for fate in found.values()]


def left_out(out: str | Path | Store) -> dict[str, int]:
    """What sources left out while reading, by reason: such documents have no name, only a count."""
    skipped: Counter[str] = Counter()
    for receipts in receipts_of(out).values():
        for receipt in receipts:
            skipped.update(receipt.skipped)
    return dict(sorted(skipped.items()))


def _everywhere(
    store: Store, maps: list[str], receipts: dict[str, list[Receipt]], column: str, key: bytes | str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, row) of a document: an id is looked for until it is found, an address in all places."""
    places = [_files(receipts[maps[-1]], "kept")] if maps else []
    places += [_files(receipts[step], "dropped") for step in reversed(maps)]
    for names in places:
        hits = list(_search(store, names, column, key))
        yield from hits
        if hits and column == "id":
            return


def _files(receipts: Sequence[Receipt], kind: str) -> list[str]:
    return [o.name for receipt in receipts for o in receipt.outputs if f"/{kind}/" in o.name and o.rows]


def _search(
    store: Store, names: Sequence[str], column: str, key: bytes | str
) -> Iterator[tuple[str, dict[str, Any]]]:
    with ThreadPoolExecutor(HANDS) as hands:
        for start in range(0, len(names), 8 * HANDS):
            some = names[start : start + 8 * HANDS]
            for name, rows in zip(
                some, hands.map(partial(_rows, store, column=column, key=key), some), strict=True
            ):
                yield from ((name, row) for row in rows)


def _rows(store: Store, name: str, column: str, key: bytes | str) -> list[dict[str, Any]]:
    """The rows of a file that have this key, with the beginnings of their texts.

    Only the key's column is read where the statistics of a row group do not rule it out.
    """
    rows: list[dict[str, Any]] = []
    with store.open(name) as source:
        file = pq.ParquetFile(source)
        for group in range(file.num_row_groups):
            if not _may_hold(file, group, column, key):
                continue
            held = file.read_row_group(group, [column])[column]
            hit = pc.equal(held, pa.scalar(key, held.type))
            if pc.any(hit).as_py():
                long = text_size(file, group) > GROUP_BYTES
                columns = [name for name in file.schema_arrow.names if name != "text" or not long]
                rows += readable(file.read_row_group(group, columns).filter(hit))
    return rows


def _may_hold(file: pq.ParquetFile, group: int, column: str, key: bytes | str) -> bool:
    facts = file.metadata.row_group(group).column(file.schema_arrow.names.index(column))
    seen = facts.statistics
    if seen is None or not seen.has_min_max:
        return True
    return bool(seen.min <= key <= seen.max)


def _why(lines: Sequence[Line], step: str, row: dict[str, Any]) -> dict[str, Any]:
    """The settings of the stage that dropped a row, and the threshold among them that decided."""
    settings = [s for line in lines if line.map == step and line.stage == row["stage"] for s in line.settings]
    return {"settings": settings, "threshold": threshold(row["reason"], settings)}


def _with_sibling(store: Store, fate: dict[str, Any], receipts: dict[str, list[Receipt]]) -> dict[str, Any]:
    """A dropped document with its text, if a step before still has it, and with the one kept in its place."""
    if fate["sibling"] is None:
        return fate
    here = receipts[fate["dropped"]]
    if fate["text"] is None:
        before = list(dict.fromkeys(name for receipt in here for name in receipt.inputs if "/kept/" in name))
        found = next(_search(store, before, "id", bytes.fromhex(fate["id"])), None)
        fate |= {key: found[1].get(key) for key in ("text", "characters")} if found else {}
    other = next(_search(store, _files(here, "kept"), "id", bytes.fromhex(fate["sibling"])), None)
    return fate | {"kept_instead": other and other[1]}


def diff(first: str | Path | Store, second: str | Path | Store) -> dict[str, Any]:
    """What differs between two runs: counts by reason, and the documents that only one of them keeps."""
    drops = [_drops(out) for out in (first, second)]
    names = sorted({*drops[0], *drops[1]})
    counts, examples = [0, 0], ([], [])  # type: tuple[list[int], tuple[list[str], list[str]]]
    rows = sum(
        output.rows for receipts in (*last_kept(first), *last_kept(second)) for output in receipts.kept()
    )
    shares = -(-rows // IDS) or 1
    for share in range(shares):
        ids = [_ids(out, share, shares) for out in (first, second)]
        for side in (0, 1):
            alone = np.setdiff1d(ids[side], ids[1 - side], assume_unique=True)
            counts[side] += len(alone)
            room = EXAMPLES - len(examples[side])
            examples[side].extend(name.tobytes().ljust(16, b"\0").hex() for name in alone[:room])
    return {
        "drops": {
            name: [drops[0][name], drops[1][name]] for name in names if drops[0][name] != drops[1][name]
        },
        "only_first": {"documents": counts[0], "examples": examples[0]},
        "only_second": {"documents": counts[1], "examples": examples[1]},
    }


def _drops(out: str | Path | Store) -> Counter[str]:
    """How many documents went for which reason."""
    found: Counter[str] = Counter()
    for receipts in receipts_of(out).values():
        for receipt in receipts:
            found.update(receipt.drops)
    return found


def _ids(out: str | Path | Store, share: int, shares: int) -> np.ndarray:
    """The ids, sorted, of the kept documents that belong to one share of all ids."""
    store, found = Store.at(out), [np.zeros((0, 16), np.uint8)]
    for output in (output for receipt in last_kept(out) for output in receipt.kept()):
        column = read_table(store, output.name, ["id"])["id"].combine_chunks()
        ids = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, 16)
        found.append(ids[ids[:, :2].copy().view(np.uint16)[:, 0] % shares == share])
    return np.unique(np.ascontiguousarray(np.concatenate(found)).view("V16")[:, 0])
