"""What the verbs of the data room say, as lines of text: a table, a run's report, a document's fate."""

import textwrap
from typing import Any

WIDTH = 100
BEGINNING = 240  # characters of a text
SHOWN = 12  # languages, sources
PLAIN = ("id", "source", "url", "text", "characters", "kept", "dropped", "date")


def table_lines(head: list[str], rows: list[list[Any]]) -> list[str]:
    """Names to the left, numbers to the right."""
    lines = [head, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    made = []
    for line in lines:
        cells = zip(line, widths, strict=True)
        made.append(
            "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(cells))
        )
    return [line.rstrip() for line in made]


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def report_lines(facts: dict[str, Any]) -> list[str]:
    """One line a stage; then reasons, languages, sources."""
    lines = table_lines(["stage", "in", "dropped", "left", "", "text", "tokens", "CPU"],
                        [_stage(row) for row in facts["stages"]])  # fmt: skip
    if facts["reasons"]:
        rows = [[row["reason"], row["documents"], f"{row['share']:.1%}"] for row in facts["reasons"]]
        lines += ["", *table_lines(["dropped for", "documents", "of all"], rows)]
    for name, title in (("lang", "language"), ("source", "source")):
        found = [row for row in facts[f"by_{name}"] if row[name]]
        rows = [[row[name], row["read"], row["kept"], size(row["kept_bytes"])] for row in found[:SHOWN]]
        lines += ["", *table_lines([title, "read", "kept", "text"], rows)] if rows else []
        lines += [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    skipped = facts["provenance"]["skipped"]
    if skipped:
        named = ", ".join(f"{reason} {count:,}" for reason, count in skipped.items())
        lines += ["", f"left out while reading: {named}"]
    if facts["unfinished"]:
        lines += ["", f"not finished: nothing is done yet of {', '.join(facts['unfinished'])}"]
    return lines


def _stage(row: dict[str, Any]) -> list[Any]:
    tokens = "-" if row["tokens_left"] is None else row["tokens_left"]
    if row["ending"]:
        return [row["stage"], row["documents_in"], "-", "-", "", f"{row['files']:,} files", tokens,
                f"{row['cpu_s']:,.1f} s"]  # fmt: skip
    return [row["stage"], row["documents_in"], row["documents_dropped"] or "-", row["documents_left"],
            f"{row['share_left']:.1%}", size(row["bytes_left"]), tokens,
            f"{row['cpu_s']:,.1f} s"]  # fmt: skip


def fate_lines(fate: dict[str, Any]) -> list[str]:
    """An answer: kept or dropped, by which stage, for what measure, and what stands in its place."""
    lines = [fate["url"] or fate["id"], f"  {fate['source']}, id {fate['id']}"]
    lines += _kept(fate) if "kept" in fate else _dropped(fate)
    return lines + _beginning(fate)


def _dropped(fate: dict[str, Any]) -> list[str]:
    lines = [f"dropped by {fate['stage']}: {fate['reason']} (step {fate['dropped']})"]
    limit, value = fate["threshold"], fate["value"]
    if limit and value is not None:
        side = "below" if limit["drops"] == "below" else "above"
        also = f" (or what {limit['by']} says)" if limit["by"] else ""
        asked = f"{limit['setting']} = {_number(limit['value'])}{also}"
        lines.append(f"  measured {_number(value)}, which is {side} {asked}")
    elif value is not None:
        lines.append(f"  measured {_number(value)}")
    for settings in fate["settings"]:
        said = ", ".join(
            f"{k} = {_short(v)}"
            for k, v in settings.items()
            if k not in ("name", "version") and v not in ({}, [], "", None)
        )
        lines += (
            textwrap.wrap(f"set to: {said}", WIDTH, initial_indent="  ", subsequent_indent="    ")
            if said
            else []
        )
    if fate["sibling"] is None:
        return lines
    other = fate["kept_instead"]
    if other is None:
        return [*lines, f"kept in its place: {fate['sibling']}, which is not a document of this run's step"]
    lines.append(f"kept in its place: {other['url'] or other['id']}")
    return [*lines, f"  {other['source']}, id {other['id']}", *_beginning(other)]


def _kept(fate: dict[str, Any]) -> list[str]:
    lines = [f"kept, in {fate['kept']}"]
    for name, value in fate.items():
        if value is None or name in PLAIN:
            continue
        stage = name.removeprefix("n.")
        note = name.startswith("n.")
        lines.append(
            f"  {stage}: stands for {_number(value)} documents" if note else f"  {name} {_number(value)}"
        )
    return lines


def _beginning(row: dict[str, Any]) -> list[str]:
    text = row.get("text")
    if not text:
        return []
    cut = " ".join(text[: 2 * BEGINNING].split())[:BEGINNING]
    whole = row["characters"] <= len(cut)
    lines = textwrap.wrap(
        cut + ("" if whole else " ..."), WIDTH, initial_indent="  | ", subsequent_indent="  | "
    )
    return lines or []


def _number(value: Any) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and not value.is_integer()
        else str(value).removesuffix(".0")
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
