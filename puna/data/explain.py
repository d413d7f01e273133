"""Where did a document go? Which reasons took how many? What differs between two runs? Answers from a run's
own files: receipts say how many, sidecars say which.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from puna.data.parquet import read_table
from puna.data.pipeline import last_kept, receipts_of
from puna.data.receipts import Receipt
from puna.data.store import Store

EXAMPLES = 20
IDS = 20_000_000  # that a comparison holds at once


def explain(out: str | Path | Store, wanted: str) -> list[dict[str, Any]]:
    """What became of each document with this id (32 hex digits) or address, and of its sibling.

    {"dropped": step, "id", "url", "stage", "reason", "value", "sibling", ...}, or {"kept": file, "id", "url"}
    with all its attributes: in mode `annotate` each gate's verdict.
    """
    store, receipts = Store.at(out), receipts_of(out)
    found: dict[str, dict[str, Any]] = {}
    maps = [
        step for step, held in receipts.items() if any("/dropped/" in o.name for r in held for o in r.outputs)
    ]
    for step in maps:
        for output in _files(receipts[step], "dropped"):
            for row in _rows(store, output, wanted):
                found[row["id"]] = row | {"dropped": step}
    for output in _files(receipts[maps[-1]], "kept") if maps else []:
        for row in _rows(store, output, wanted):
            found[row["id"]] = row | {"kept": output}
    return list(found.values())


def _files(receipts: list[Receipt], kind: str) -> list[str]:
    return [output.name for receipt in receipts for output in receipt.outputs if f"/{kind}/" in output.name]


def _rows(store: Store, name: str, wanted: str) -> list[dict[str, Any]]:
    table = read_table(store, name, ["id", "url"])
    hit = pc.equal(table["url"], wanted)
    if len(wanted) == 32 and not set(wanted) - set("0123456789abcdef"):
        hit = pc.or_(hit, pc.equal(table["id"], pa.scalar(bytes.fromhex(wanted), pa.binary(16))))
    if not pc.any(hit).as_py():
        return []
    return [
        {key: value.hex() if isinstance(value, bytes) else value for key, value in row.items()}
        for row in read_table(store, name).filter(hit).to_pylist()
    ]


def report(out: str | Path | Store) -> dict[str, Any]:
    """The funnel: for each step what came in, what went out, what was dropped for which reason, the cost."""
    steps = {step: _summed(receipts) for step, receipts in receipts_of(out).items()}
    drops: Counter[str] = Counter()
    for facts in steps.values():
        drops.update(facts["drops"])
    return {"steps": steps, "drops": dict(sorted(drops.items()))}


def _summed(receipts: list[Receipt]) -> dict[str, Any]:
    drops, skipped, stage_s = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        drops.update(receipt.drops)
        skipped.update(receipt.skipped)
        for stage, seconds in receipt.stage_s.items():
            stage_s[stage] += seconds  # type: ignore[assignment]
    return {
        "tasks": len(receipts),
        "rows_in": sum(r.rows_in for r in receipts),
        "rows_out": sum(r.rows_out for r in receipts),
        "bytes": sum(r.bytes for r in receipts),
        "written": sum(output.size for r in receipts for output in r.outputs),
        "drops": dict(sorted(drops.items())),
        "skipped": dict(sorted(skipped.items())),
        "stage_s": {stage: round(seconds, 3) for stage, seconds in sorted(stage_s.items())},
        "cpu_s": round(sum(r.cpu_s for r in receipts), 3),
        "rss_mb": max((r.rss_mb for r in receipts), default=0),
    }


def diff(first: str | Path | Store, second: str | Path | Store) -> dict[str, Any]:
    """What differs between two runs: counts by reason, and the documents that only one of them keeps."""
    drops = [Counter(report(out)["drops"]) for out in (first, second)]
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


def _ids(out: str | Path | Store, share: int, shares: int) -> np.ndarray:
    """The ids, sorted, of the kept documents that belong to one share of all ids."""
    store, found = Store.at(out), [np.zeros((0, 16), np.uint8)]
    for output in (output for receipt in last_kept(out) for output in receipt.kept()):
        column = read_table(store, output.name, ["id"])["id"].combine_chunks()
        ids = np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, 16)
        found.append(ids[ids[:, :2].copy().view(np.uint16)[:, 0] % shares == share])
    return np.unique(np.ascontiguousarray(np.concatenate(found)).view("V16")[:, 0])
