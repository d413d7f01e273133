"""The parts of the report's page that are counts: funnel, reasons, languages, sources, costs, provenance."""

import json
from typing import Any

from puna.data.page.figures import bar, heat, number, percent, size, table
from puna.data.page.html import Html, Inside, clipped, joined, named, tag

ROWS = 25  # of a table of values; the rest is in the JSON
LANGUAGES = 24  # of the heat table
RECIPE = 100_000  # characters
UNKNOWN = "(not known)"
Facts = dict[str, Any]


def headline(facts: Facts) -> Html:
    """The run in five numbers."""
    read, kept = facts["read"], facts["kept"]
    cpu = sum(step["cpu_s"] for step in facts["costs"].values())
    tokens = kept["tokens"] if kept["tokens"] is not None else facts["stages"][-1]["tokens_left"]
    said = [
        (number(read["documents"]), "documents read"),
        (number(kept["documents"]), f"kept, {percent(kept['documents'] / max(read['documents'], 1))}"),
        (size(kept["bytes"]), f"of text, of {size(read['bytes'])}"),
        ("not counted" if tokens is None else number(tokens), "tokens"),
        (seconds(cpu), f"of CPU, {number(max(s['rss_mb'] for s in facts['costs'].values()))} MB at most"),
    ]
    return tag("div", [tag("div", tag("b", value), tag("span", what)) for value, what in said], cls="facts")


def seconds(count: float) -> str:
    if count >= 7200:
        return f"{count / 3600:,.1f} h"
    return f"{count:,.1f} s" if count < 600 else f"{count / 60:,.0f} min"


def funnel(facts: Facts) -> Html:
    """One line a stage; two bars: the documents that are left, and their text."""
    read = facts["read"]
    rows: list[list[Inside]] = []
    for stage in facts["stages"]:
        if stage["ending"]:
            made = f"{number(stage['files'])} files, {size(stage['written'])}"
            ends = [number(stage["tokens_left"]), seconds(stage["cpu_s"])]
            rows.append([named(stage["stage"]), made, number(stage["documents_in"]), "", "", "", *ends])
            continue
        left = stage["documents_left"] / max(read["documents"], 1)
        text = stage["bytes_left"] / max(read["bytes"], 1)
        drawn: list[Inside] = [
            bar(left, label=f"{percent(left)} of the documents"),
            bar(text, label=f"{percent(text)} of the text"),
        ]
        rows.append([
            named(stage["stage"]), drawn, number(stage["documents_in"]),
            number(stage["documents_dropped"] or None), number(stage["documents_left"]),
            size(stage["bytes_left"]), number(stage["tokens_left"]),
            seconds(stage["cpu_s"]),
        ])  # fmt: skip
    head: list[Inside] = [
        "stage",
        tag("span", "left of all"),
        "in",
        "dropped",
        "left",
        "text left",
        "tokens",
        "CPU",
    ]
    return table(head, rows, "funnel", words=2)


def reasons(facts: Facts) -> Html:
    most = max((row["documents"] for row in facts["reasons"]), default=1)
    rows: list[list[Inside]] = [
        [named(row["reason"]), bar(row["documents"] / most, "dropped"), rule(row["threshold"]),
         number(row["documents"]), percent(row["share"]), size(row["bytes"])]
        for row in facts["reasons"]
    ]  # fmt: skip
    if not rows:
        return tag("p", "Nothing was dropped.", cls="soft")
    return table(["reason", "", "dropped if", "documents", "of all", "text"], rows, "funnel", words=3)


def rule(found: Facts | None) -> Html | None:
    """What a threshold asks, in words."""
    if not found:
        return None
    sign = "<" if found["drops"] == "below" else ">"
    also = f" (or {found['by']})" if found["by"] else ""
    return tag("span", f"{sign} {number(found['value'])}{also}", cls="mono", title=found["setting"])


def languages(facts: Facts) -> Html | None:
    """Which stage drops how much of what reaches it, by language."""
    stages = [s["stage"] for s in facts["stages"] if not s["ending"] and s["documents_dropped"]]
    stages = list(dict.fromkeys(stages))
    found = facts["by_lang"][:LANGUAGES]
    if not stages or not any(row["lang"] for row in found):
        return None
    rows = []
    for row in found:
        left, cells = row["read"], []
        for stage in stages:
            gone = row["dropped"].get(stage, 0)
            cells.append(heat(gone / left if left else None, f"{stage}: {number(gone)} of {number(left)}"))
            left -= gone
        name = row["lang"] or UNKNOWN
        ends = [tag("td", number(row["read"]), cls="n"), tag("td", number(row["kept"]), cls="n")]
        rows.append(tag("tr", tag("td", clipped(name, 24)), ends[0], cells, ends[1]))
    head = tag("tr", tag("th", "language"), tag("th", "read", cls="n"),
               [tag("th", named(name), cls="n") for name in stages], tag("th", "kept", cls="n"))  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), cls="heats"), cls="scroll")


def values(facts: Facts, name: str, title: str) -> Html | None:
    """A table of the most frequent values of a column."""
    found = [row for row in facts[f"by_{name}"] if row[name] or len(facts[f"by_{name}"]) > 1]
    if not found:
        return None
    rows: list[list[Inside]] = [
        [clipped(row[name] or UNKNOWN, 120), bar(row["kept"] / max(row["read"], 1), label="share kept"),
         number(row["read"]), number(row["kept"]), size(row["kept_bytes"]), number(row["kept_tokens"])]
        for row in found[:ROWS]
    ]  # fmt: skip
    more = len(found) - ROWS
    note = tag("p", f"and {more:,} more, in the JSON of the report", cls="note soft") if more > 0 else None
    shown = table([title, "kept", "read", "kept", "text kept", "tokens"], rows, "funnel", words=2)
    return joined(shown, note)


def costs(facts: Facts) -> Html:
    """CPU and memory by stage; every step of them, folded."""
    whole = max(sum(stage["cpu_s"] for stage in facts["stages"]), 1e-9)
    stages: list[list[Inside]] = [
        [named(stage["stage"]), bar(stage["cpu_s"] / whole, "spent"), seconds(stage["cpu_s"]),
         percent(stage["cpu_s"] / whole), f"{number(stage['peak_mb'])} MB"]
        for stage in facts["stages"]
    ]  # fmt: skip
    rows: list[list[Inside]] = [
        [named(name), number(step["tasks"]), number(step["rows_in"]), number(step["rows_out"]),
         size(step["written"]), seconds(step["cpu_s"]), f"{number(step['rss_mb'])} MB"]
        for name, step in facts["costs"].items()
    ]  # fmt: skip
    steps = table(["step", "tasks", "rows in", "rows out", "written", "CPU", "peak"], rows)
    shown = table(["stage", "", "CPU", "of all", "peak of its process"], stages, "funnel", words=2)
    return joined(shown, tag("details", tag("summary", f"All {len(rows)} steps"), steps))


def provenance(facts: Facts) -> Html:
    """Each source: its pieces and settings; what was left out while reading."""
    found = facts["provenance"]
    parts: list[Html | None] = []
    for one in found["sources"]:
        pieces = ", ".join(clipped(piece, 90) for piece in one["first"][:6])
        more = f", and {one['pieces'] - 6:,} more" if one["pieces"] > 6 else ""
        settings = json.dumps(one["settings"], ensure_ascii=False)
        parts.append(tag("h3", one["source"] or UNKNOWN))
        said = [tag("dt", f"{one['pieces']:,} pieces"), tag("dd", pieces + more, cls="mono"),
                tag("dt", "settings"), tag("dd", clipped(settings, 1200), cls="mono")]  # fmt: skip
        parts.append(tag("dl", said))
    if found["skipped"]:
        rows: list[list[Inside]] = [[reason, number(count)] for reason, count in found["skipped"].items()]
        parts += [tag("h3", "Left out while reading"), table(["why", "counted"], rows)]
    return joined(parts)


def recipe(facts: Facts) -> Html:
    """The recipe as it was resolved, every setting written out."""
    said = clipped(json.dumps(facts["recipe"], indent=1, ensure_ascii=False), RECIPE)
    return tag("details", tag("summary", "The whole recipe, every setting"), tag("pre", tag("code", said)))
