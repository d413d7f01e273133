"""How large a model, and on how many tokens, a budget of compute is best spent: scaling laws from small runs
(IsoFLOP), and what loss and accuracy a large run will reach before it is paid for.

Runs of one budget and several sizes lie on a parabola over the logarithm of tokens (or parameters); its
bottom is the best run of the budget, and the bottoms of several budgets lie on a line in logarithms:
tokens = A * flops^alpha [P 3.2.1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from puna.errors import DataError, need

SAME_BUDGET = (
    1.15  # runs whose FLOPs differ by less than this factor are of one budget: steps are whole numbers
)
DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Point:
    """One finished run."""

    parameters: float
    tokens: float
    flops: float
    loss: float


@dataclass(frozen=True)
class Valley:
    """The runs of one budget: where their parabola is lowest."""

    flops: float
    best: float  # parameters, or tokens, of the lowest point
    loss: float
    curve: tuple[float, float, float]  # loss = a x^2 + b x + c at x = ln(parameters or tokens)
    inside: bool  # whether the lowest point lies between the runs; outside, it is a guess


@dataclass(frozen=True)
class Law:
    """value = factor * flops^exponent; low .. high holds the exponent in 95 of 100 draws of the bootstrap."""

    factor: float
    exponent: float
    low: float
    high: float

    def at(self, flops: float) -> float:
        return self.factor * flops**self.exponent


@dataclass(frozen=True)
class Fit:
    """What a sweep says: the best parameters and the best tokens for any budget, each with its valleys."""

    parameters: Law
    tokens: Law
    by_parameters: tuple[Valley, ...]
    by_tokens: tuple[Valley, ...]


# [P 3.2.1] the legend of Figure 3; the text rounds to 0.29 and 0.53, from which its own 16.55T do not follow
LLAMA3_TOKENS = Law(0.299, 0.537, math.nan, math.nan)


def fit(points: Sequence[Point], seed: int = 0) -> Fit:
    """The laws of a sweep of at least two budgets with three sizes each; DataError says what is missing."""
    budgets = _budgets(points)
    need(len(budgets) >= 2, f"a law needs two budgets, here is {len(budgets)}", "more budgets", DataError)
    for runs in budgets:
        sizes = len({run.parameters for run in runs})
        problem = f"a parabola needs three sizes, the budget of {runs[0].flops:.3g} FLOPs has {sizes}"
        need(sizes >= 3, problem, "more sizes", DataError)
    flops = np.array([math.exp(np.mean([math.log(run.flops) for run in runs])) for runs in budgets])
    laws, valleys = [], []
    for size in (lambda run: run.parameters, lambda run: run.tokens):
        xs = [np.log([size(run) for run in runs]) for runs in budgets]
        ys = [np.array([run.loss for run in runs]) for runs in budgets]
        curves = [np.polyfit(x, y, 2) for x, y in zip(xs, ys, strict=True)]
        for curve, budget in zip(curves, flops, strict=True):
            problem = f"the losses of {budget:.3g} FLOPs have no lowest point"
            need(curve[0] > 0, problem, "smaller and larger models, or longer runs", DataError)
        laws.append(_law(flops, xs, ys, curves, np.random.default_rng(seed)))
        valleys.append(tuple(map(_valley, flops, xs, curves)))
    return Fit(laws[0], laws[1], valleys[0], valleys[1])


def _budgets(points: Sequence[Point]) -> list[list[Point]]:
    """Runs by budget, the smallest first."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if not groups or point.flops > SAME_BUDGET * groups[-1][0].flops:
            groups.append([])
        groups[-1].append(point)
    return groups


def _valley(flops: float, x: np.ndarray, curve: np.ndarray) -> Valley:
    bottom = _bottom(curve)
    a, b, c = (float(part) for part in curve)
    loss = float(np.polyval(curve, bottom))
    return Valley(float(flops), math.exp(bottom), loss, (a, b, c), bool(x.min() <= bottom <= x.max()))


def _bottom(curve: np.ndarray) -> float:
    return float(-curve[1] / (2 * curve[0]))


def _law(
    flops: np.ndarray, xs: list[np.ndarray], ys: list[np.ndarray], curves: list[np.ndarray],
    rng: np.random.Generator,
) -> Law:  # fmt: skip
    """The line through the bottoms; how sure it is follows from what the parabolas leave unexplained."""
    exponent, shift = np.polyfit(np.log(flops), [_bottom(curve) for curve in curves], 1)
    fitted = [np.polyval(curve, x) for curve, x in zip(curves, xs, strict=True)]
    left = np.concatenate([y - line for y, line in zip(ys, fitted, strict=True)])
    free = len(left) - 3 * len(curves)
    if free <= 0:  # parabolas through three points leave nothing that would show how sure they are
        return Law(math.exp(shift), float(exponent), math.nan, math.nan)
    left = left * math.sqrt(len(left) / free)  # three numbers of each parabola were fitted to them
    bottoms = []
    for x, line in zip(xs, fitted, strict=True):
        middle = x.mean()
        solve = np.linalg.pinv(np.vander(x - middle, 3))  # (3, n)
        curve = solve @ (line + rng.choice(left, (DRAWS, len(x)))).T  # (3, DRAWS)
        bottoms.append(np.where(curve[0] > 0, middle - curve[1] / (2 * curve[0]), np.nan))
    steady = np.array(bottoms)[:, np.isfinite(bottoms).all(0)]  # draws without a lowest point say nothing
    need(steady.shape[1] > DRAWS // 2, "the losses are too noisy for a law", "more sizes a budget", DataError)
    exponents = np.polyfit(np.log(flops), steady, 1)[0]
    low, high = np.percentile(exponents, [2.5, 97.5])
    return Law(math.exp(shift), float(exponent), float(low), float(high))


@dataclass(frozen=True)
class Forecast:
    """In two steps [P 3.2.1]: compute -> nats a character of the right answer -> accuracy of a benchmark."""

    slope: float  # nats a character for each e-fold of compute
    shift: float
    middle: float  # nats where half of what chance leaves is reached
    width: float
    chance: float

    def nats(self, flops: float) -> float:
        return self.slope * math.log(flops) + self.shift

    def accuracy(self, nats: float) -> float:
        return float(_sigmoid(nats, self.middle, self.width, self.chance))


def forecast(
    runs: Sequence[tuple[float, float]], known: Sequence[tuple[float, float]], chance: float
) -> Forecast:
    """From (FLOPs, nats) of small runs, and (nats, accuracy) of any models that are known."""
    need(len(runs) >= 2 and len(known) >= 3, "a forecast needs two runs and three known models",
         error=DataError)  # fmt: skip
    slope, shift = np.polyfit(np.log([flops for flops, _ in runs]), [nats for _, nats in runs], 1)
    nats, accuracy = np.array(known, dtype=float).T
    share = np.clip((accuracy - chance) / (1 - chance), 0.01, 0.99)
    a, b = np.polyfit(nats, np.log(share / (1 - share)), 1)
    problem = "accuracy does not rise where the nats fall"
    need(a < 0, problem, "models that differ more", DataError)
    middle, width = _least_squares(
        lambda p: _sigmoid(nats, p[0], p[1], chance) - accuracy, np.array([-b / a, -1 / a])
    )
    return Forecast(float(slope), float(shift), float(middle), float(width), chance)


def _sigmoid(nats: np.ndarray | float, middle: float, width: float, chance: float) -> np.ndarray:
    return chance + (1 - chance) / (1 + np.exp((nats - middle) / width))


def _least_squares(wrong: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    """Gauss-Newton, damped so that a step never makes it worse."""
    at, damping = start, 1e-3
    for _ in range(100):
        here = wrong(at)
        move = 1e-6 * np.maximum(np.abs(at), 1e-3)
        slopes = np.stack([(wrong(at + one) - here) / one.sum() for one in np.diag(move)], axis=1)
        step = np.linalg.solve(slopes.T @ slopes + damping * np.diag(move), -slopes.T @ here)
        if np.sum(wrong(at + step) ** 2) < np.sum(here**2):
            at, damping = at + step, damping / 3
        else:
            damping *= 3
    return at
