"""The parts of the report's page that show documents: what stayed, what went, copies side by side, plots."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from puna.data.page.beside import beside
from puna.data.page.counts import rule
from puna.data.page.figures import bar, histogram, number, table
from puna.data.page.html import Html, Inside, clipped, joined, named, tag

SHOWN = 700  # characters of a sample
VALUES = 20_000  # of each side of a histogram
FEWEST = 8  # values of a histogram
OPEN = 3  # reasons whose samples are unfolded
Facts = dict[str, Any]


def sample(row: Facts, *facts: Inside) -> Html:
    """A document: where it is from, what is said of it, how it begins."""
    text = row.get("text")
    shown = tag("div", clipped(text, SHOWN), cls="text", dir="auto") if text is not None else None
    cut = text is not None and row["characters"] > SHOWN
    size = f" · the first {SHOWN:,} of {row['characters']:,} characters" if cut else ""
    name = [tag("b", clipped(row["url"] or row["id"], 200)), " · ", row["source"], " · ", row["id"]]
    return tag("div", tag("div", name, facts, size, cls="where"), shown, cls="sample")


def kept(found: Facts) -> Html:
    rows = [sample(row, f" · {row['lang']}" if row.get("lang") else None) for row in found["kept"]]
    return joined(rows) if rows else tag("p", "No document was kept.", cls="soft")


def dropped(facts: Facts, found: Facts) -> Html | None:
    """For every reason a few of the documents that went for it."""
    parts = []
    for place, row in enumerate(facts["reasons"]):
        said = found["dropped"].get(row["reason"], [])
        shown = [sample(one, " · measured ", tag("b", number(one["value"]))) if one["value"] is not None
                 else sample(one) for one in said if one["stage"] == row["stage"]]  # fmt: skip
        title = tag(
            "summary",
            tag("span", number(row["documents"]), cls="soft"),
            named(row["reason"]),
            " ",
            rule(row["threshold"]),
        )
        without = any(one["text"] is None for one in said)
        note = (
            f"The run kept the text of {number(100 * facts['sample'])} in 100 dropped documents."
            if without
            else None
        )
        opened = "" if place < OPEN else None
        parts.append(tag("details", title, shown, note and tag("p", note, cls="note soft"), open=opened))
    return joined(parts) if parts else None


def pairs(found: Facts) -> Html | None:
    """Copies beside the documents that were kept for them, what differs marked."""
    parts: list[Html] = []
    for stage, couples in found["pairs"].items():
        parts.append(tag("h3", stage))
        parts += [_pair(couple) for couple in couples if couple["kept"]]
    return joined(parts) if parts else None


def _pair(couple: Facts) -> Html:
    gone, stays = couple["gone"], couple["kept"]
    if gone.get("text") is None or stays.get("text") is None:
        return tag("div", sample(gone), sample(stays), cls="pair")
    left, right, differ = beside(gone["text"], stays["text"])
    note = f" · measured {number(couple['value'])}" + ("" if differ else " · they begin with the same words")

    def side(row: Facts, what: str, text: Html) -> Html:
        where = [what, " ", tag("b", clipped(row["url"] or row["id"], 200)), " · ", row["id"]]
        return tag(
            "div", tag("div", where, note if what == "dropped" else None, cls="where"), text, cls="sample"
        )

    return tag("div", side(gone, "dropped", left), side(stays, "kept", right), cls="pair")


def measured(facts: Facts, found: Facts) -> Html | None:
    """A histogram of what each reason measures: dropped below the line, kept above it."""
    figures, done = [], set()
    for row in facts["reasons"]:
        seen = found["values"].get(row["reason"])
        if (
            seen is None
            or row["reason"] in done
            or len(seen["dropped"]) < FEWEST
            or len(np.unique(seen["dropped"])) < 2
        ):
            continue
        done.add(row["reason"])
        at = row["threshold"] and row["threshold"]["value"]
        drawn = histogram(_thinned(seen["dropped"]), _thinned(seen["kept"]), at)
        what = f"{number(row['documents'])} dropped"
        if row["threshold"]:
            what += f" {row['threshold']['drops']} {row['threshold']['setting']} = {number(at)}"
        figures.append(
            tag("figure", tag("figcaption", named(row["reason"]), tag("small", what)), drawn)
            if drawn
            else None
        )
    return tag("div", figures, cls="grid") if any(figures) else None


def _thinned(values: np.ndarray | None) -> list[tuple[float, float]]:
    """At most VALUES of them, evenly taken."""
    if values is None:
        return []
    some = np.sort(values[np.isfinite(values)])
    step = max(1, -(-len(some) // VALUES))
    return [(float(value), 1.0) for value in some[::step]]


def lengths(facts: Facts, found: Facts) -> Html | None:
    """How long documents are, before and after: estimated from the texts that were looked at."""
    sizes, went = found["lengths"]["kept"], found["lengths"]["dropped"]
    if not sizes:
        return None
    each = facts["kept"]["documents"] / len(sizes)
    after = [(size, each) for size in sizes]
    drawn = histogram([*after, *went], after, None, log=True)
    said = (
        f"bytes, logarithmic; up: after, down: before; from {len(sizes):,} kept, {len(went):,} dropped texts"
    )
    return tag("figure", tag("figcaption", "Length of documents", tag("small", said)), drawn)


def clusters(found: Facts) -> list[Html]:
    """How many documents one kept document stands for."""
    figures = []
    for stage, counts in found["clusters"].items():
        grouped = _grouped({many: count for many, count in counts.items() if many > 1})
        if not grouped:
            continue
        most = max(count for _, count in grouped)
        rows: list[list[Inside]] = [[name, bar(count / most), number(count)] for name, count in grouped]
        said = "documents that one kept document stands for, itself among them; of the files looked into"
        shown = table(["stands for", "", "kept"], rows, words=2)
        figures.append(tag("figure", tag("figcaption", f"Clusters of {stage}", tag("small", said)), shown))
    return figures


def _grouped(counts: dict[int, int]) -> list[tuple[str, int]]:
    """2, 3, 4, then powers of two."""
    edges: Sequence[int] = (2, 3, 4, *(2**n + 1 for n in range(2, 40)))
    rows = []
    for low, end in pairwise(edges):
        count = sum(number for many, number in counts.items() if low <= many < end)
        rows.append((str(low) if end == low + 1 else f"{low:,}–{end - 1:,}", count))
    return [(name, count) for name, count in rows if count]
