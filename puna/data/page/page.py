"""The report of a run as one page, for a person who asks what became of the documents."""

import shlex
from typing import Any

from puna.data.page import counts, texts
from puna.data.page.html import Html, Inside, joined, tag
from puna.data.page.sheet import sheet

KEY = tag("p", tag("i"), "kept", tag("i", cls="dropped"), "dropped", cls="note key")


def page(facts: dict[str, Any], found: dict[str, Any], run: str) -> str:
    """The report's facts and samples as HTML; `run` is how a person names the run in a command."""
    title = f"{facts['name']}: what became of the documents"
    parts = [part for part in _parts(facts, found, run) if part[2] is not None]
    links = [tag("a", name, href=f"#{key}") for key, name, _ in parts]
    body = [
        tag("h1", facts["name"]),
        _lead(facts),
        counts.headline(facts) if facts["read"] else None,
        tag("nav", links),
    ]
    for key, name, part in parts:
        body += [tag("h2", name, id=key), part]
    body.append(
        tag(
            "footer",
            f"Run {facts['run']} · the same facts as JSON: puna data report {shlex.quote(run)} --json",
        )
    )
    return sheet(title, body)


def _lead(facts: dict[str, Any]) -> Html:
    said = "What a recipe kept and dropped, and why: counts of all documents, texts of a few."
    if facts["mode"] == "annotate":
        said += " The recipe annotates: its gates wrote verdicts as columns, and dropped nothing."
    if facts["unfinished"]:
        said += f" The run is not finished: {len(facts['unfinished'])} steps have nothing done yet."
    return tag("p", said, cls="soft")


def _parts(facts: dict[str, Any], found: dict[str, Any], run: str) -> list[tuple[str, str, Html | None]]:
    """(name of the anchor, title, the part)."""
    if not facts["read"]:
        return [("none", "Nothing was read yet", tag("p", "Carry out the recipe first."))]
    origins = [
        ("source", "source"),
        ("licence", "licence"),
        ("optout", "opt-out signals"),
        ("domain", "domain"),
    ]
    tables = [table for name, title in origins if (table := counts.values(facts, name, title))]
    plots = [texts.lengths(facts, found), *texts.clusters(found)]
    measured = texts.measured(facts, found)
    return [
        ("funnel", "Stage by stage", joined(
            _note("Upper bar: documents left of all. Lower: their text."), counts.funnel(facts))),
        ("reasons", "Why documents went", counts.reasons(facts)),
        ("languages", "Languages", _after(
            "The share that a stage drops of what reaches it in this language.", counts.languages(facts))),
        ("origins", "Sources, licences, domains", joined(tables)),
        ("measured", "What was measured", _after(KEY, measured)),
        ("shapes", "Lengths and clusters", tag("div", plots, cls="grid") if any(plots) else None),
        ("kept", "Kept: a sample", texts.kept(found)),
        ("dropped", "Dropped: samples for every reason", texts.dropped(facts, found)),
        ("copies", "Copies beside what was kept", _after(
            "The least alike first. Words that only one side has are marked.", texts.pairs(found))),
        ("costs", "What it cost", counts.costs(facts)),
        ("provenance", "Where it is from", joined(counts.provenance(facts), counts.recipe(facts))),
        ("further", "Ask further", _further(facts, found, run)),
    ]  # fmt: skip


def _note(said: Inside) -> Html:
    return said if isinstance(said, Html) else tag("p", said, cls="note soft")


def _after(note: Inside, part: Html | None) -> Html | None:
    return None if part is None else joined(_note(note), part)


def _further(facts: dict[str, Any], found: dict[str, Any], run: str) -> Html:
    """Commands that work as they stand here."""
    name = shlex.quote(run)
    shown = [row for rows in found["dropped"].values() for row in rows[:1]][:3] + found["kept"][:1]
    asks = [f"puna data explain {name} {row['id']}" for row in shown]
    said = [*asks, f"puna data report {name} --json", f"puna data verify {name}"]
    return joined(tag("p", "Why any document stayed or went, by its id or its address:"),
                  tag("pre", tag("code", "\n".join(said))))  # fmt: skip
