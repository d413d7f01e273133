"""How large a model a budget is best spent on, found by spending small budgets on several sizes (IsoFLOP):
each budget's losses lie on a parabola over the logarithm of the size, and the lowest points on a line.

    sweep/runs/1.00e+12-64x2/   a run's folder each; what is done is not done again
    sweep/sweep.json            runs, fit
    sweep/prediction.json       what a larger budget will reach, written before anyone knows
    sweep/check.json            and what it reached
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puna.errors import DataError, need
from puna.plan.scaling import Fit, Point, fit
from puna.train.history import read_history
from puna.train.ladder import Rung, base, nearest, recipe_of, rung
from puna.train.recipe import TrainRecipe
from puna.train.start import carry_out, start

DRAWS = 2000  # of the bootstrap
COUNT = (
    "FLOPs by the causal count: 6 for each weight of the layers and the head, and attention's unmasked half"
)


@dataclass(frozen=True)
class Done:
    """A run that was carried out."""

    name: str
    budget: float
    width: int
    layers: int
    parameters: int
    tokens: int
    flops: float
    loss: float  # nats a token of what was held out
    seconds: float

    @property
    def point(self) -> Point:
        return Point(self.parameters, self.tokens, self.flops, self.loss)


@dataclass(frozen=True)
class Prediction:
    """What a budget will reach; the interval holds 95 of 100 draws."""

    budget: float
    best_parameters: float
    best_tokens: float
    width: int  # the rung nearest to that, which is the one that is run
    parameters: int
    tokens: int
    loss: float
    low: float
    high: float
    runs: int  # that it follows from
    made: str


def carry(recipe: TrainRecipe, rungs: Sequence[Rung], folder: Path) -> Iterator[Done]:
    """Each run as it is done."""
    for one in rungs:
        place, given = folder / "runs" / one.name, recipe_of(recipe, one)
        found = _done(one, given, place)
        if found is None:
            for _ in carry_out(start(given, place)):
                pass
            found = _done(one, given, place)
        assert found is not None
        yield found


def _done(one: Rung, recipe: TrainRecipe, place: Path) -> Done | None:
    """What a finished run reached: the loss of what was held out, by the weights of the data."""
    if not (place / "model" / "config.json").exists():
        return None
    run = read_history(place)
    same = run.recipe == recipe.model_dump(mode="json")
    need(same, f"{place}: made by another recipe", "another folder for another recipe", DataError)
    losses, shares = run.told("judged")[-1]["loss"], recipe.stage[0].weights
    read = {name: share for name, share in shares.items() if share and name in losses}
    loss = sum(losses[name] * share for name, share in read.items()) / sum(read.values())
    sizes = one.model.hidden_size, one.model.num_hidden_layers
    seconds = sum(step["seconds"] for step in run.steps)
    return Done(one.name, one.budget, *sizes, one.parameters, one.tokens, one.flops, loss, seconds)


def write_sweep(folder: Path, done: Sequence[Done], found: Fit) -> None:
    runs = [asdict(one) for one in done]
    _write(folder / "sweep.json", {"count": COUNT, "runs": runs, "fit": asdict(found)})


def predict(recipe: TrainRecipe, done: Sequence[Done], budget: float, folder: Path) -> Prediction:
    """Write down what a budget will reach. What was written for the same budget stays."""
    there = read_prediction(folder)
    if there and there.budget == budget:
        return there
    problem = f"{folder}: the prediction for {there.budget:.3g} FLOPs was checked already" if there else ""
    need(not (folder / "check.json").exists(), problem, "another folder", DataError)
    found = fit([one.point for one in done])
    best = found.parameters.at(budget)
    one = rung(recipe, budget, nearest(base(recipe), best))
    losses = _losses(done, found, math.log(one.flops), math.log(one.parameters / best))
    low, high = np.percentile(losses[1:], [2.5, 97.5])
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sizes = one.model.hidden_size, one.parameters, one.tokens
    reach = float(losses[0]), float(low), float(high)
    said = Prediction(budget, best, found.tokens.at(budget), *sizes, *reach, len(done), made)
    _write(folder / "prediction.json", asdict(said))
    return said


def _losses(done: Sequence[Done], found: Fit, flops: float, off: float) -> np.ndarray:
    """(1 + DRAWS,): the loss at ln(flops), `off` beside the best ln(parameters), from the runs as they are
    and from draws in which what the parabolas leave unexplained is dealt out anew.

    The lowest losses follow a line in logarithms; how steep a valley is, is the mean of those seen.
    """
    budgets = sorted({one.budget for one in done})
    groups = [[one for one in done if one.budget == budget] for budget in budgets]
    xs = [np.log([one.parameters for one in runs]) for runs in groups]
    seen = [np.array([one.loss for one in runs]) for runs in groups]
    fitted = [np.polyval(valley.curve, x) for valley, x in zip(found.by_parameters, xs, strict=True)]
    left = np.concatenate([y - line for y, line in zip(seen, fitted, strict=True)])
    left = left * math.sqrt(len(left) / max(1, len(left) - 3 * len(groups)))
    rng, curves = np.random.default_rng(0), []
    for x, y, line in zip(xs, seen, fitted, strict=True):
        drawn = np.vstack([y, line + rng.choice(left, (DRAWS, len(x)))])  # (1 + DRAWS, N)
        curves.append(np.polyfit(x - x.mean(), drawn.T, 2))
    steep, slope, shift = np.stack(curves, axis=1)  # (3, budgets, 1 + DRAWS)
    with np.errstate(divide="ignore"):
        lowest = shift - slope**2 / (4 * steep)
    sound = ((steep > 0) & (lowest > 0)).all(0)
    spent = np.log([valley.flops for valley in found.by_parameters])
    rise, level = np.polyfit(spent, np.log(lowest[:, sound]), 1)
    losses = np.exp(rise * flops + level) + steep[:, sound].mean(0) * off**2
    problem = "the losses are too noisy for a prediction"
    need(len(losses) > DRAWS // 2, problem, "more sizes a budget", DataError)
    return losses


def check(recipe: TrainRecipe, said: Prediction, folder: Path) -> dict[str, Any]:
    """Carry out what was predicted, and tell how far off it was."""
    one = rung(recipe, said.budget, nearest(base(recipe), said.best_parameters))
    [found] = carry(recipe, [one], folder)
    told = {"run": asdict(found), "predicted": said.loss, "reached": found.loss}
    told |= {"off": found.loss / said.loss - 1, "inside": said.low <= found.loss <= said.high}
    _write(folder / "check.json", told)
    return told


def read_prediction(folder: Path) -> Prediction | None:
    try:
        return Prediction(**json.loads((folder / "prediction.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _write(path: Path, said: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(said, indent=1), encoding="utf-8")
    part.replace(path)
