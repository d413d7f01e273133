"""Curves as inline SVG: lines of several runs in one picture, what is between the lowest and the highest
value of a stretch behind them, and marks where a step was left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from puna.data.page.figures import number
from puna.data.page.html import Html, tag

WIDTH, HEIGHT = 640, 260  # in its own units
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26  # around the field
STRETCHES = 300  # of a line: more cannot be told apart
COLOURS = 8
HIGHEST = 0.95  # of a long line that begins far above, the share that stays below the top of the field


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) in order; `colour` is the run's number, `dash` tells several of one run apart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dash: int = 0
    marks: Sequence[float] = field(default=())  # where on x something was left out
    kind: Literal["line", "dots", "points"] = (
        "line"  # dots: a few values that deserve each one; points: no line
    )


@dataclass(frozen=True)
class Field:
    """Where values lie in a picture."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False
    log_y: bool = False

    def across(self, value: np.ndarray) -> np.ndarray:
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(value, self.x, self.log_x)

    def down(self, value: np.ndarray) -> np.ndarray:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - _share(value, self.y, self.log_y))


def chart(lines: Sequence[Line], log_y: bool = False, zero: bool = False, log_x: bool = False) -> Html | None:
    """All lines in one picture; None if there is nothing to draw. With `zero` the field begins there."""
    drawn = [(line, _stretches(line)) for line in lines if len(line.points)]
    drawn = [(line, values) for line, values in drawn if values.shape[1]]
    if not drawn:
        return None
    area = _field([values for _, values in drawn], log_x, log_y, zero)
    shapes = [_axes(area)]
    shapes += [_band(values, area, line.colour) for line, values in drawn if line.kind == "line"]
    shapes += [_line(line, values, area) for line, values in drawn]
    shapes += [_mark(area, x, line.colour) for line, _ in drawn for x in line.marks]
    return tag("svg", shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", cls="curves",
               aria_label=", ".join(line.name for line, _ in drawn))  # fmt: skip


def _stretches(line: Line) -> np.ndarray:
    """(4, n): x, mean, lowest and highest of each stretch of what is finite."""
    points = np.array(line.points, float)  # (N, 2)
    points = points[np.isfinite(points).all(1)]
    parts = np.array_split(points, min(len(points), STRETCHES)) if len(points) else []
    rows = [(part[:, 0].mean(), part[:, 1].mean(), part[:, 1].min(), part[:, 1].max()) for part in parts]
    return np.array(rows).reshape(-1, 4).T


def _field(drawn: Sequence[np.ndarray], log_x: bool, log_y: bool, zero: bool) -> Field:
    xs = np.concatenate([values[0] for values in drawn])
    means = np.concatenate([values[1] for values in drawn])
    if log_y:
        means = means[means > 0] if (means > 0).any() else np.ones(1)
    whole = log_x or log_y or zero or len(means) < STRETCHES / 2
    low, high = float(means.min()), float(means.max() if whole else np.quantile(means, HIGHEST))
    low = 0.0 if zero else low
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    y = (low / 1.15, high * 1.15) if log_y else (low if zero else low - room, high + room)
    x = (float(xs.min()), float(xs.max()))
    if x[0] == x[1]:
        x = (x[0] * 0.9, x[1] * 1.1) if log_x else (x[0] - 0.5, x[1] + 0.5)
    return Field(x, y, log_x, log_y)


def _share(value: np.ndarray, ends: tuple[float, float], log: bool) -> np.ndarray:
    low, high = ends
    if log:
        value, low, high = np.log(np.maximum(value, 1e-300)), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _axes(area: Field) -> list[Html]:
    shapes = []
    for value in _ticks(area.y, area.log_y):
        y = round(float(area.down(np.array(value))), 1)
        shapes.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="base"))
        shapes.append(tag("text", short(value), x=LEFT - 6, y=y + 4, text_anchor="end"))
    for value in _ticks(area.x, area.log_x):
        x = round(float(area.across(np.array(value))), 1)
        shapes.append(tag("text", short(value), x=x, y=HEIGHT - 8, text_anchor="middle"))
    return shapes


def _ticks(ends: tuple[float, float], log: bool) -> list[float]:
    """Round numbers within, four or so."""
    low, high = ends
    if log and high / low > 8:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        times = (1, 2, 5) if len(powers) < 5 else (1,)
        found = [one * 10.0**power for power in powers[:: max(1, len(powers) // 5)] for one in times]
        return [value for value in found if low <= value <= high]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number for an axis: 1.5k, 20M, 0.003, 1e-5."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}" if abs(value) < 1e15 else f"{value:.0e}"
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else number(round(value, 12))


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _inside(y: np.ndarray) -> np.ndarray:
    return np.clip(y, TOP - 4, HEIGHT - BOTTOM)


def _band(values: np.ndarray, area: Field, colour: int) -> Html:
    x, low, high = area.across(values[0]), _inside(area.down(values[2])), _inside(area.down(values[3]))
    outline = _path(np.concatenate((x, x[::-1])), np.concatenate((low, high[::-1])))
    return tag("path", d=f"{outline}z", cls=f"band c{colour % COLOURS}")


def _line(line: Line, values: np.ndarray, area: Field) -> list[Html]:
    x, y = area.across(values[0]), _inside(area.down(values[1]))
    kind = f"line c{line.colour % COLOURS} d{line.dash % 4}"
    shapes = [tag("path", tag("title", line.name), d=_path(x, y), cls=kind)] if line.kind != "points" else []
    if line.kind != "line" or len(x) == 1:
        shapes += [tag("circle", tag("title", f"{line.name}: {short(px)}, {number(py)}"), cx=f"{a:.1f}",
                       cy=f"{b:.1f}", r=4, cls=f"dot c{line.colour % COLOURS}")
                   for a, b, px, py in zip(x, y, values[0], values[1], strict=True)]  # fmt: skip
    return shapes


def _mark(area: Field, where: float, colour: int) -> Html:
    x, foot = float(area.across(np.array(where))), HEIGHT - BOTTOM
    shape = f"M{x:.1f} {foot - 7}l4 7h-8z"
    return tag("path", tag("title", f"left out: {short(where)}"), d=shape, cls=f"dot c{colour % COLOURS}")
