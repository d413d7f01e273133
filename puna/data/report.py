"""The report of a run: how many documents came in, where they went and why, what it cost, where it is from.

Everything is summed from small files, receipts and tallies; no document is read. Rows are counted where they
leave: what a stage read is what it dropped and what came after it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from puna.data.outline import Line, outline, read_run
from puna.data.pipeline import receipts_of
from puna.data.receipts import Receipt
from puna.data.shards import SUFFIX, Header
from puna.data.store import Store
from puna.data.tallies import SIDES, counted, most_frequent, tally_names, total
from puna.data.tally import COUNTS
from puna.data.thresholds import threshold

DOMAINS = 50  # told apart; the rest is summed
PIECES = 20  # named of each source
VALUES = ("source", "lang", "domain", "licence", "optout")
Receipts = dict[str, list[Receipt]]
Rows = list[dict[str, Any]]


def report(out: str | Path | Store, domains: int = DOMAINS) -> dict[str, Any]:
    """All that a run's own files say of it, as plain values; tokens are None where none were counted.

    "stages" one row a stage, in order; "reasons"; "funnel": documents, bytes and tokens by stage, reason
    ("" kept), language and domain; "by_source", "by_lang", ...: read, kept and where they were dropped;
    "costs" by step; "provenance": sources with settings and pieces; "recipe" as it was resolved.
    """
    store = Store.at(out)
    run, receipts = read_run(store), receipts_of(store)
    lines = outline(run)
    maps = [line.map for line in lines if line.steps and line.map and receipts[line.map]]
    first = tally_names(receipts[maps[0]]) if maps else []
    largest = most_frequent(store, first, domains)
    counts = {step: counted(store, receipts[step], largest) for step in maps}
    stages = _stages(store, lines, maps, counts, receipts)
    told = _funnel(maps, counts, stages)
    kept = next((row for row in reversed(stages) if not row["ending"]), None)
    return {
        "run": store.base,
        "name": run["name"],
        "mode": run["mode"],
        "sample": run["sample"],
        "unfinished": [step for step in run["steps"] if not receipts[step]],
        "read": _without_tokens(total(counts[maps[0]]["funnel"])) if maps else None,
        "kept": {key: kept[f"{key}_left"] for key in COUNTS} if kept and maps else None,
        "stages": stages,
        "reasons": _reasons(stages, told["funnel"]),
        **{f"by_{name}": _values(told[name if name in SIDES else "funnel"], name) for name in VALUES},
        "funnel": told["funnel"],
        "costs": costs(receipts),
        "provenance": _provenance(run, receipts[run["steps"][0]]),
        "recipe": run,
    }


def _without_tokens(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name != "tokens"}


def _stages(
    store: Store, lines: list[Line], maps: list[str], counts: dict[str, Any], receipts: Receipts
) -> Rows:
    """One row a stage: what it read, dropped and left."""
    stages: Rows = []
    tokens_from = _tokens_from(lines, maps, counts)
    for number, line in enumerate(lines):
        if line.is_ending:
            made = [r for step in line.steps if not step.endswith(".emit") for r in receipts[step]]
            row = _written(store, made, receipts[line.steps[0]])
        elif line.map in maps:
            row = _gone_and_left(lines, line, counts[line.map]["funnel"], number >= tokens_from)
        else:
            continue
        where = {"stage": line.stage or "read", "step": line.map or line.steps[-1], "ending": line.is_ending}
        stages.append(where | row | _cost(line, receipts) | {"settings": line.settings})
    return stages


def _gone_and_left(lines: list[Line], line: Line, rows: Rows, has_tokens: bool) -> dict[str, Any]:
    chained = [one.stage for one in lines if one.map == line.map]
    later = {"", *chained[chained.index(line.stage) + 1 :]}  # "": kept at the end of the step
    gone = total(row for row in rows if row["reason"] and row["stage"] == line.stage)
    left = total(row for row in rows if row["stage"] in later)
    counts = {f"{key}_dropped": gone[key] for key in COUNTS} | {f"{key}_left": left[key] for key in COUNTS}
    read = gone["documents"] + left["documents"]
    facts = {"documents_in": read} | counts | {"share_left": left["documents"] / read if read else 1.0}
    return facts if has_tokens else facts | {"tokens_left": None, "tokens_dropped": None}


def _written(store: Store, receipts: list[Receipt], emitted: list[Receipt]) -> dict[str, Any]:
    """What an ending wrote; the tokens of shards stand in their headers."""
    files = [output for receipt in receipts for output in receipt.outputs]
    here = store.filesystem.type_name == "local" and bool(files)
    shards = here and all(one.name.endswith(SUFFIX) for one in files)
    tokens = sum(Header.read(Path(store.path(one.name))).tokens for one in files) if shards else None
    size = sum(one.size for one in files)
    documents = sum(receipt.rows_in for receipt in emitted)
    return {"documents_in": documents, "files": len(files), "written": size, "tokens_left": tokens}


def _tokens_from(lines: list[Line], maps: list[str], counts: dict[str, Any]) -> int:
    """The number of the first stage after which documents carry a count of tokens."""
    names = [line.stage for line in lines]
    if "tokens.count" in names:
        return names.index("tokens.count")
    return 0 if maps and total(counts[maps[-1]]["funnel"])["tokens"] else len(lines)


def _cost(line: Line, receipts: Receipts) -> dict[str, Any]:
    """CPU seconds and the peak of memory: of a chained stage its seconds, of others all their steps'."""
    in_chain = [r.stage_s.get(line.stage, 0.0) for r in receipts.get(line.map, [])]
    own = [receipt for step in line.steps for receipt in receipts[step]]
    chained = sum(sum(r.stage_s.values()) for r in receipts.get(line.map, [])) if line.steps else 0.0
    seconds = sum(r.cpu_s for r in own) - chained + sum(in_chain)
    held = own or receipts.get(line.map, [])
    return {"cpu_s": round(seconds, 3), "peak_mb": max((r.rss_mb for r in held), default=0)}


def _funnel(maps: list[str], counts: dict[str, Any], stages: Rows) -> dict[str, Rows]:
    """Of all steps one funnel, by every set of keys: what each step dropped, and what the last one kept."""
    uncounted = {(row["step"], row["stage"]) for row in stages if row["tokens_left"] is None}
    if all(row["tokens_left"] is None for row in stages if not row["ending"]):
        uncounted |= {(step, "") for step in maps}
    found: dict[str, Rows] = {key: [] for key in ("funnel", *SIDES)}
    for step in maps:
        for key, rows in counts[step].items():
            for row in rows:
                if row["reason"] or step == maps[-1]:
                    known = (step, row["stage"]) not in uncounted
                    found[key].append({"step": step} | row | ({} if known else {"tokens": None}))
    return found


def _reasons(stages: Rows, funnel: Rows) -> Rows:
    """The reasons, the most frequent first, with the threshold that decided where there is one."""
    read = sum(row["documents"] for row in funnel)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in funnel:
        if row["reason"]:
            at = found.setdefault((row["step"], row["stage"], row["reason"]), dict.fromkeys(COUNTS, 0))
            for name in COUNTS:
                at[name] = None if row[name] is None else at[name] + row[name]
    settings = {(s["step"], s["stage"]): s["settings"] for s in stages}
    rows = [
        {"reason": reason, "stage": stage, "step": step, **counts,
         "share": counts["documents"] / max(read, 1),
         "threshold": threshold(reason, settings.get((step, stage), []))}
        for (step, stage, reason), counts in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row["documents"], row["reason"]))


def _values(rows: Rows, name: str) -> Rows:
    """Each value of a column: documents and bytes read and kept, and how many each stage dropped."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        at = found.setdefault(row[name], dict.fromkeys(("read", "read_bytes", "kept", "kept_bytes"), 0))
        at.setdefault("kept_tokens", None)
        at.setdefault("dropped", Counter())
        at["read"] += row["documents"]
        at["read_bytes"] += row["bytes"]
        if row["reason"]:
            at["dropped"][row["stage"]] += row["documents"]
            continue
        at["kept"] += row["documents"]
        at["kept_bytes"] += row["bytes"]
        at["kept_tokens"] = None if row["tokens"] is None else (at["kept_tokens"] or 0) + row["tokens"]
    told = [{name: value} | facts | {"dropped": dict(facts["dropped"])} for value, facts in found.items()]
    return sorted(told, key=lambda row: (-row["read"], row[name]))


def _provenance(run: dict[str, Any], receipts: list[Receipt]) -> dict[str, Any]:
    """What was read: each source's settings and pieces, and what was left out while reading."""
    skipped: Counter[str] = Counter()
    pieces: dict[str, list[str]] = {source["name"]: [] for source in run["sources"]}
    for receipt in receipts:
        skipped.update(receipt.skipped)
        for piece in receipt.inputs:
            pieces.setdefault(_source_of(piece, run["sources"]), []).append(piece)
    settings = {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in run["sources"]}
    sources = [
        {"source": name, "pieces": len(found), "first": found[:PIECES], "settings": settings.get(name)}
        for name, found in pieces.items()
    ]
    return {"sources": sources, "skipped": dict(sorted(skipped.items()))}


def _source_of(piece: str, sources: Rows) -> str:
    """The source with the longest path, up to a wild card, that the piece begins with; "" where none fits."""
    if len(sources) == 1:
        return str(sources[0]["name"])
    stems = [(str(path).partition("*")[0], s["name"]) for s in sources for path in s.get("paths", ())]
    fitting = [(len(stem), name) for stem, name in stems if piece.startswith(stem)]
    return str(max(fitting)[1]) if fitting else ""


def costs(receipts: Receipts) -> dict[str, dict[str, Any]]:
    """What the receipts of each step say together."""
    return {step: _together(held) for step, held in receipts.items()}


def _together(receipts: list[Receipt]) -> dict[str, Any]:
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
