"""Small figures of the report: bars, histograms, a heat table. Drawn as plain elements and inline SVG."""

from collections.abc import Sequence

import numpy as np

from puna.data.page.html import Html, Inside, tag

BINS = 32
WIDTH, HEIGHT = 320, 84  # of a histogram, in its own units


def number(value: float | None) -> str:
    """Short and exact: 1,234 and 0.734; a dash for what is not known."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{100 * share:.1f}%"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB"


def bar(share: float, kind: str = "kept", label: str | None = None) -> Html:
    """A share of the whole as a bar."""
    width = 100 * min(max(share, 0.0), 1.0)
    return tag("div", tag("i", cls=kind, style=f"width:{width:.2f}%"), cls="bar", title=label)


def table(head: Sequence[Inside], rows: Sequence[Sequence[Inside]], cls: str = "", words: int = 1) -> Html:
    """Columns of words first, then of numbers; one of which nothing is known is left out.

    It scrolls by itself where the page is narrow.
    """
    known = [i for i in range(len(head)) if i < words or any(row[i] not in ("–", "") for row in rows)]

    def cells(kind: str, row: Sequence[Inside]) -> Html:
        return tag(
            "tr",
            [tag(kind, cell, cls=None if i < words else "n") for i, cell in enumerate(row) if i in known],
        )

    body = tag("tbody", [cells("td", row) for row in rows])
    return tag("div", tag("table", tag("thead", cells("th", head)), body, cls=cls or None), cls="scroll")


def histogram(
    dropped: Sequence[tuple[float, float]],
    kept: Sequence[tuple[float, float]],
    at: float | None,
    log: bool = False,
) -> Html | None:
    """Weighted values as columns: what stayed stands up, what went hangs down, the threshold between.

    Each side is drawn to its own height: one says how the kept ones lie, the other how the dropped ones do.
    """
    values = np.array([value for value, _ in (*dropped, *kept)])
    if not len(values) or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    low, high = (low, high) if at is None else (min(low, at), max(high, at))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(max(low, 1), max(high, 2), BINS + 1) if log else np.linspace(low, high, BINS + 1)
    middle = HEIGHT / 2 if len(kept) else 0.0
    shapes = [_columns(dropped, edges, "dropped", middle, HEIGHT - middle)]
    if len(kept):
        shapes.append(_columns(kept, edges, "kept", middle, -middle))
    shapes.append(tag("line", x1=0, x2=WIDTH, y1=middle, y2=middle, cls="base"))
    if at is not None:
        x = round(WIDTH * (at - low) / (high - low), 2)
        shapes.append(tag("line", x1=x, x2=x, y1=0, y2=HEIGHT, cls="threshold"))
    drawn = tag("svg", shapes, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img",
                aria_label=f"values from {number(low)} to {number(high)}")  # fmt: skip
    ends = tag("div", tag("span", number(float(edges[0]))), tag("span", number(float(edges[-1]))), cls="ends")
    return tag("div", drawn, ends, cls="histogram")


def _columns(
    weighted: Sequence[tuple[float, float]], edges: np.ndarray, kind: str, start: float, reach: float
) -> Html:
    """A path of columns from a base line; `reach` is the height of the highest, down if positive."""
    values, weights = np.array(weighted, float).T if len(weighted) else np.zeros((2, 0))
    heights, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges, weights=weights)
    heights = heights / max(heights.max(), 1e-12) * (abs(reach) - 2) * np.sign(reach)
    step = WIDTH / BINS
    moves = [
        f"M{i * step + 0.5:.2f} {start:.2f}h{step - 1:.2f}v{height:.2f}h{1 - step:.2f}z"
        for i, height in enumerate(heights)
        if abs(height) > 0.01
    ]
    return tag("path", d="".join(moves), cls=kind)


def heat(share: float | None, title: str) -> Html:
    """One cell of a heat table: the deeper the tint the larger the share."""
    if share is None:
        return tag("td", cls="n none")
    tint = round(6 + 74 * min(share, 1.0)) if share else 0
    return tag("td", percent(share) if share else "·", cls="n heat", style=f"--tint:{tint}%", title=title)
