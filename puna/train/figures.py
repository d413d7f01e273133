"""What is drawn of runs: each figure's lines, from their records alone. Pages and pictures draw the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from puna.train.curves import Line
from puna.train.history import History, Record, measured

By = Literal["steps", "tokens"]
Place = Callable[[int], float]  # where a step stands on the horizontal axis


@dataclass(frozen=True)
class Figure:
    title: str
    note: str
    lines: list[Line]
    log_y: bool = False
    log_x: bool = False
    zero: bool = False  # the vertical axis begins there


def figures(runs: Sequence[History], by: By) -> list[Figure]:
    """Those for which any run has values."""
    places = [_places(run, by) for run in runs]
    each = list(zip(runs, places, strict=True))

    def lines(value: Callable[[Record], float | None], marks: bool = False) -> list[Line]:
        return [_line(number, run, place, value, marks) for number, (run, place) in enumerate(each)]

    bits = [
        Line(
            f"{run.name}: {name}", [(place(step), value) for step, value in values], number, dash, kind="dots"
        )
        for number, (run, place) in enumerate(each)
        for dash, (name, values) in enumerate(run.bits().items())
    ]
    use = [Line(run.name, [(place(step), 100 * share) for step, share in run.use()], number)
           for number, (run, place) in enumerate(each)]  # fmt: skip
    found = [
        Figure("Loss", "nats a token", lines(lambda one: one["loss"], True)),
        Figure("Bits a byte", "of what is held out", bits),
        Figure(
            "Gradient", "its length before clipping", lines(lambda one: one["gradient"], True), log_y=True
        ),
        Figure("Learning rate", "", lines(lambda one: one["rate"]), zero=True),
        Figure("Speed", "tokens a second", lines(lambda one: one["tokens"] / one["seconds"]), zero=True),
        Figure("MFU", f"% of {_peaks(runs)}", use, zero=True),
        Figure("Memory", "GiB held at most so far", lines(lambda one: _gib(one.get("memory"))), zero=True),
        *_statistics(each),
    ]
    return [figure for figure in found if any(line.points for line in figure.lines)]


def _places(run: History, by: By) -> Place:
    if by == "steps":
        return float
    tokens = {one["step"]: one["all_tokens"] for one in run.steps}
    return lambda step: float(tokens[step] if step in tokens else run.tokens_before(step))


def _line(
    number: int, run: History, place: Place, value: Callable[[Record], float | None], marks: bool
) -> Line:
    points = [(place(one["step"]), found) for one in run.steps if (found := value(one)) is not None]
    skipped = [place(one["step"]) for one in run.steps if one["skipped"]] if marks else []
    return Line(run.name, points, number, marks=skipped)


def _peaks(runs: Sequence[History]) -> str:
    """Each denominator, named."""
    found = [one for run in runs for one in run.told("begun") if one.get("peak_flops")]
    return "; ".join(
        dict.fromkeys(f"{one['peak_flops'] / 1e12:,.3g} TFLOP/s: {one['peak_of']}" for one in found)
    )


def _gib(count: float | None) -> float | None:
    return count / 2**30 if count else None


def _statistics(each: Sequence[tuple[History, Place]]) -> list[Figure]:
    """One figure for each kind of number that a run tells of its weights and activations, if it does."""
    found: dict[str, list[Line]] = {}
    for number, (run, place) in enumerate(each):
        series: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for record in run.told("statistics"):
            for kind, values in measured(record).items():
                for name, value in values.items():
                    points = series.setdefault(kind, {}).setdefault(name, [])
                    points.append((place(record["step"]), value))
        for kind, named in series.items():
            lines = [Line(f"{run.name}: {name}", points, number if len(each) > 1 else dash, dash)
                     for dash, (name, points) in enumerate(named.items())]  # fmt: skip
            found.setdefault(kind, []).extend(lines)
    return [Figure(kind.replace("_", " ").capitalize(), "statistics, by layer or rank", lines, log_y=True)
            for kind, lines in found.items()]  # fmt: skip
