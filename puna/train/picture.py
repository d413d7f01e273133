"""The curves of runs and of a sweep as one picture, to show around: the page's figures by matplotlib."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from puna.errors import ConfigError
from puna.train.figures import Figure, figures
from puna.train.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2f7d6b", "#c2773a", "#4a6fb5", "#a4508b", "#7a8b2f", "#b5483f", "#3b8ea5", "#8a6d4b")
DASHES = ("-", "--", ":", "-.")
COLUMNS, EACH = 2, (6.4, 2.9)  # inches of one figure


def picture(runs: Sequence[History], path: Path) -> None:
    """Every figure by steps, one below the other, as PNG, PDF or SVG by the file's name."""
    names = [run.name for run in runs]
    draw(figures(runs, "steps"), path, names if len(names) > 1 else [])


def draw(found: Sequence[Figure], path: Path, legend: Sequence[str] = ()) -> None:
    try:
        from matplotlib.figure import Figure as Sheet
    except ImportError:
        fix = "pip install 'puna[train]', or the page alone"
        raise ConfigError(f"matplotlib is not installed\n  try: {fix}") from None
    rows = max(1, math.ceil(len(found) / COLUMNS))
    sheet = Sheet(figsize=(COLUMNS * EACH[0], rows * EACH[1]), layout="constrained")
    fields = sheet.subplots(rows, COLUMNS, squeeze=False).flatten()
    for field, one in zip(fields, found, strict=False):
        _one(field, one)
    for field in fields[len(found) :]:
        field.set_axis_off()
    for place, name in enumerate(legend):
        fields[0].plot([], [], color=COLOURS[place % len(COLOURS)], label=name)
    if legend:
        fields[0].legend(frameon=False, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, dpi=110)


def _one(field: "Axes", one: Figure) -> None:
    for line in one.lines:
        if line.points:
            x, y = zip(*line.points, strict=True)
            colour, dash = COLOURS[line.colour % len(COLOURS)], DASHES[line.dash % len(DASHES)]
            style = {"line": dash, "dots": f".{dash}", "points": "."}[line.kind]
            field.plot(x, y, style, color=colour, linewidth=1.1)
        for where in line.marks:
            field.axvline(where, color=COLOURS[line.colour % len(COLOURS)], linewidth=0.5, alpha=0.4)
    field.set_title(f"{one.title}, {one.note}" if one.note else one.title, loc="left", fontsize=10)
    if one.log_x:
        field.set_xscale("log")
    if one.log_y:
        field.set_yscale("log")
    elif one.zero:
        field.set_ylim(bottom=0)
    field.spines[["top", "right"]].set_visible(False)
    field.grid(axis="y", alpha=0.25)
