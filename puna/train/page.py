"""Runs as one page: their curves in one picture, how they ended, in what their recipes differ, what they say.

It is drawn from the log alone, so it can be made at any time, and again while a run goes on.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from puna.data.page.figures import number, percent, size, table
from puna.data.page.html import Html, Inside, clipped, joined, tag
from puna.data.page.sheet import sheet
from puna.train.curves import COLOURS, chart
from puna.train.figures import By, Figure, figures
from puna.train.history import History, Record, differences, summary

SAMPLES = 12  # of a run, the newest
RECIPE = 100_000  # characters
STYLE = Path(__file__).parent / "curves.css"


def page(runs: Sequence[History], refresh_s: int | None = None) -> str:
    """The page of one run or several; `refresh_s` for one that is written again and again."""
    rows = [summary(run) for run in runs]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    differing = _differences(runs)
    parts = [
        ("curves", "Curves", _curves(runs)),
        ("runs", "Final and best", _comparison(rows)),
        ("recipes", "In what the recipes differ", differing),
        ("samples", "What the models say", _samples(runs)),
        ("recipe", "Recipes", joined([_recipe(run) for run in runs if run.recipe])),
    ]
    shown = [part for part in parts if part[2]]
    body = [
        tag("h1", title),
        tag("p", _lead(rows), cls="soft"),
        _headline(rows[0]) if len(rows) == 1 else None,
        tag("nav", [tag("a", name, href=f"#{key}") for key, name, _ in shown]),
        [[tag("h2", name, id=key), part] for key, name, part in shown],
        tag("footer", "Again: puna train report " + " ".join(shlex.quote(row["run"]) for row in rows)),
    ]
    return sheet(f"{title}: training", body, STYLE.read_text(encoding="utf-8"), refresh_s)


def comparison(rows: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of runs, as text: a column that no run has a value for is left out."""
    sets = list(dict.fromkeys(name for row in rows for name in row["bits_per_byte"]))
    columns: list[tuple[str, list[str]]] = [
        ("run", [row["name"] for row in rows]),
        ("state", [row["state"] for row in rows]),
        ("steps", [number(row["steps"]) for row in rows]),
        ("tokens", [number(row["tokens"]) for row in rows]),
        ("loss", [number(row["loss"]) for row in rows]),
    ]
    for name in sets:
        last = [row["bits_per_byte"].get(name) for row in rows]
        best = [(row["best_bits_per_byte"].get(name), row["best_step"].get(name)) for row in rows]
        columns.append((f"{name} bits/byte", [number(value) for value in last]))
        columns.append((f"{name} best", ["–" if value is None else f"{number(value)} at {number(step)}"
                                         for value, step in best]))  # fmt: skip
    columns += [
        ("gradient", [number(row["gradient"]) for row in rows]),
        ("tokens/s", [_whole(row["tokens_s"]) for row in rows]),
        ("MFU", ["–" if row["use"] is None else percent(row["use"]) for row in rows]),
        ("memory", ["–" if row["memory"] is None else size(row["memory"]) for row in rows]),
        ("left out", [number(row["skipped"]) for row in rows]),
        ("time", [clock(row["seconds"]) for row in rows]),
        ("goodput", ["–" if row["goodput"] is None else percent(row["goodput"]) for row in rows]),
    ]
    known = [column for column in columns if any(cell != "–" for cell in column[1])]
    return [name for name, _ in known], [
        list(row) for row in zip(*(cells for _, cells in known), strict=True)
    ]


def clock(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def _lead(rows: Sequence[Record]) -> str:
    waiting = max(row["data_share"] for row in rows)
    said = "From the records of the runs; a run that goes on has more of them each time."
    return f"{said} At most {percent(waiting)} of the steps' time was spent waiting for data."


def _headline(row: Record) -> Html:
    planned = f" of {number(row['planned'])}" if row["planned"] else ""
    said = [(number(row["steps"]), f"steps{planned}, {row['state']}"), (number(row["loss"]), "nats a token")]
    said += [(number(bits), f"bits a byte, {name}, held out") for name, bits in row["bits_per_byte"].items()]
    said += [(number(row["tokens"]), "tokens"), (_whole(row["tokens_s"]), "tokens a second")]
    said += [] if row["use"] is None else [(percent(row["use"]), "MFU")]
    said.append((clock(row["seconds"]), f"in steps; {number(row['skipped'])} left out"))
    return tag("div", [tag("div", tag("b", value), tag("span", what)) for value, what in said], cls="facts")


def _whole(value: float | None) -> str:
    return number(value and round(value))


def _curves(runs: Sequence[History]) -> Html | None:
    """Every figure twice, by steps and by tokens: two buttons tell which is seen, without a script."""
    buttons, sides = [], []
    ways: tuple[By, ...] = ("steps", "tokens")
    for way in ways:
        checked = "" if way == "steps" else None
        buttons.append(tag("input", type="radio", name="by", id=f"by-{way}", checked=checked))
        buttons.append(tag("label", f"by {way}", **{"for": f"by-{way}"}))
        drawn = [drawn_figure(one) for one in figures(runs, way)]
        sides.append(tag("div", drawn, cls=f"wide grid by-{way}"))
    key = [tag("span", tag("i", cls=f"c{place % COLOURS}"), run.name) for place, run in enumerate(runs)]
    legend = tag("p", key, cls="note legend") if len(runs) > 1 else None
    return tag("div", buttons, legend, sides, cls="switch") if figures(runs, "steps") else None


def drawn_figure(one: Figure) -> Html | None:
    drawn = chart(one.lines, one.log_y, one.zero, one.log_x)
    return drawn and tag("figure", tag("figcaption", one.title, tag("small", one.note or "\u00a0")), drawn)


def _comparison(rows: Sequence[Record]) -> Html:
    head, cells = comparison(rows)
    return table(head, cells, words=2)


def _differences(runs: Sequence[History]) -> Html | None:
    found = differences(list(runs)) if len(runs) > 1 else []
    head: list[Inside] = ["setting", *(run.name for run in runs)]
    rows: list[list[Inside]] = [[name, *(_said(value) for value in values)] for name, values in found]
    if len(runs) > 1 and not found:
        return tag("p", "In nothing: their recipes are the same.", cls="soft")
    return table(head, rows, words=len(head)) if found else None


def _said(value: Any) -> str:
    return "–" if value is None else clipped(value if isinstance(value, str) else json.dumps(value), 80)


def _samples(runs: Sequence[History]) -> Html | None:
    """The newest of each run; the ones before folded."""
    parts: list[Html] = []
    for run in runs:
        told = run.told("sample")
        last = [one for one in told if one["step"] == told[-1]["step"]]
        parts += [_sample(run, one) for one in last]
        before = told[-SAMPLES - len(last) : -len(last)] if last else []
        if before:
            shown = [_sample(run, one) for one in reversed(before)]
            parts.append(tag("details", tag("summary", f"{run.name}: before"), shown))
    return joined(parts) if parts else None


def _sample(run: History, record: Record) -> Html:
    where = [tag("b", run.name), f" · after {number(record['step'])} steps"]
    text = tag("div", tag("b", record["prompt"]), record["text"], cls="text", dir="auto")
    return tag("div", tag("div", where, cls="where"), text, cls="sample")


def _recipe(run: History) -> Html:
    said = clipped(json.dumps(run.recipe, indent=1, ensure_ascii=False), RECIPE)
    return tag("details", tag("summary", run.name), tag("pre", tag("code", said)))
