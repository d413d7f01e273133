"""A sweep as one page and one picture: a valley for each budget, the line through their lowest points, what
was predicted and what came of it.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from puna.data.page.figures import number, table
from puna.data.page.html import Html, Inside, joined, tag
from puna.data.page.sheet import sheet
from puna.plan.scaling import Fit, Law, Valley
from puna.train.curves import COLOURS, Line, short
from puna.train.figures import Figure
from puna.train.page import STYLE, clock, drawn_figure
from puna.train.picture import draw
from puna.train.sweep import COUNT, Done, Prediction

POINTS = 60  # of a drawn parabola


def write_page(
    folder: Path, done: Sequence[Done], found: Fit, said: Prediction | None, told: dict[str, Any] | None
) -> None:
    """sweep.html and sweep.png."""
    drawn = figures(done, found, said, told)
    key = [tag("span", tag("i", cls=f"c{place % COLOURS}"), f"{short(valley.flops)} FLOPs")
           for place, valley in enumerate(found.by_parameters)]  # fmt: skip
    body = [
        tag("h1", "How large a model a budget is best spent on"),
        tag(
            "p", f"{len(done)} runs, {clock(sum(one.seconds for one in done))} in steps. {COUNT}.", cls="soft"
        ),
        tag("ul", [tag("li", line) for line in sentences(found, said, told)]),
        tag("p", key, cls="note legend"),
        tag("div", [drawn_figure(one) for one in drawn], cls="wide grid"),
        tag("h2", "Runs"),
        _runs(done),
    ]
    (folder / "sweep.html").write_text(
        sheet("Sweep", body, STYLE.read_text(encoding="utf-8")), encoding="utf-8"
    )
    draw(drawn, folder / "sweep.png")


def sentences(found: Fit, said: Prediction | None, told: dict[str, Any] | None) -> list[str]:
    """What a sweep says, for a screen and a page."""
    lines = [_law("parameters", found.parameters), _law("tokens", found.tokens)]
    outside = [valley for valley in (*found.by_parameters, *found.by_tokens) if not valley.inside]
    lines += [f"{short(one.flops)} FLOPs: the lowest point lies beside the runs, so it is a guess: add sizes"
              for one in outside[:1]]  # fmt: skip
    if said:
        best = f"best at {short(said.best_parameters)} parameters and {short(said.best_tokens)} tokens"
        lines.append(f"predicted on {said.made} for {short(said.budget)} FLOPs: {best}")
        reach = f"{said.loss:.4f} nats a token ({said.low:.4f} to {said.high:.4f})"
        lines.append(f"predicted of {short(said.parameters)} parameters at that budget: {reach}")
    if told:
        where = "inside" if told["inside"] else "outside"
        lines.append(f"reached: {told['reached']:.4f}, {told['off']:+.2%} off, {where} the interval")
    return lines


def _law(what: str, law: Law) -> str:
    sure = "" if math.isnan(law.low) else f" ({law.low:.3f} to {law.high:.3f})"
    return f"best {what} = {law.factor:.3g} x FLOPs^{law.exponent:.3f}{sure}"


def figures(
    done: Sequence[Done], found: Fit, said: Prediction | None, told: dict[str, Any] | None
) -> list[Figure]:
    """Valleys over parameters and over tokens, and the lines through their lowest points."""
    losses = [Line("lowest", [(v.flops, v.loss) for v in found.by_parameters], kind="dots")]
    if said:
        losses.append(Line("predicted", [(said.budget, said.loss)], 2, kind="points"))
    if told:
        losses.append(Line("reached", [(told["run"]["flops"], told["reached"])], 1, kind="points"))
    note = (
        "nats a token over FLOPs"
        + ("; blue: predicted" if said else "")
        + ("; orange: reached" if told else "")
    )
    return [
        _valleys("parameters", done, found.by_parameters),
        _valleys("tokens", done, found.by_tokens),
        _line(
            "parameters", found.parameters, found.by_parameters, said and (said.budget, said.best_parameters)
        ),
        _line("tokens", found.tokens, found.by_tokens, said and (said.budget, said.best_tokens)),
        Figure("Lowest loss", note, losses, log_y=True, log_x=True),
    ]


def _valleys(what: str, done: Sequence[Done], valleys: Sequence[Valley]) -> Figure:
    lines = []
    for place, (budget, valley) in enumerate(zip(sorted({one.budget for one in done}), valleys, strict=True)):
        points = sorted((getattr(one, what), one.loss) for one in done if one.budget == budget)
        x = np.linspace(math.log(points[0][0]), math.log(points[-1][0]), POINTS)
        curve = list(zip(np.exp(x).tolist(), np.polyval(valley.curve, x).tolist(), strict=True))
        lines += [Line(short(budget), curve, place), Line(short(budget), points, place, kind="points")]
    return Figure("Loss", f"nats a token over {what}, a line for each budget", lines, log_x=True)


def _line(what: str, law: Law, valleys: Sequence[Valley], said: tuple[float, float] | None) -> Figure:
    ends = [valley.flops for valley in valleys] + ([said[0]] if said else [])
    lines = [Line("line", [(flops, law.at(flops)) for flops in (min(ends), max(ends))], 7),
             Line("lowest", [(valley.flops, valley.best) for valley in valleys], kind="points")]  # fmt: skip
    lines += [Line("predicted", [said], 2, kind="points")] if said else []
    return Figure(f"Best {what}", _law(what, law), lines, log_y=True, log_x=True)


def _runs(done: Sequence[Done]) -> Html:
    rows: list[list[Inside]] = [
        [short(one.budget), f"{one.width} x {one.layers}", number(one.parameters), number(one.tokens),
         f"{one.tokens / one.parameters:.1f}", f"{one.loss:.4f}", clock(one.seconds)]
        for one in done
    ]  # fmt: skip
    head: list[Inside] = ["FLOPs", "width x layers", "parameters", "tokens", "each", "nats a token", "time"]
    return joined(table(head, rows, words=2))
