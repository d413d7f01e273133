"""A linear head over embeddings that some frozen encoder gave: how FineWeb-Edu scores a page from 0 to 5.

Ridge learns a score, logistic regression a yes or no; both are solved exactly, and then stretched and shifted
on rows they have not seen, because a penalty pulls every answer towards the middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from puna.data.array_file import read_arrays, take, write_arrays
from puna.data.classify.measure import Estimate, of_label
from puna.data.classify.ngrams import split_by_id
from puna.errors import DataError, WeightsError, need
from puna.settings import Settings

KIND, VERSION = "head", 1
SCORE = (0.0, 5.0)  # [FineWeb-Edu] the scale of the annotators; 3 and more is kept


class HeadTraining(Settings):
    head: Literal["ridge", "logistic"] = "ridge"
    penalty: float = Field(1.0, gt=0)  # on the squared weights, of standardised embeddings
    dev_share: float = Field(0.1, gt=0, lt=1)  # held out by the hash of the id; calibrates and measures
    threshold: float = 3.0  # of the score, for the measures; a logistic head is measured at 0.5
    most_steps: int = Field(50, ge=1)  # of Newton's method
    seed: int = 0


@dataclass(frozen=True)
class HeadModel:
    head: str
    weights: np.ndarray  # (size,) float32
    bias: float
    facts: dict[str, Any]

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """(rows,) float32: a score from 0 to 5 (ridge) or a probability (logistic)."""
        need(
            embeddings.ndim == 2 and embeddings.shape[1] == len(self.weights),
            f"embeddings {embeddings.shape} for a head that takes (rows, {len(self.weights)})",
            error=DataError,
        )
        raw = embeddings.astype(np.float32) @ self.weights + np.float32(self.bias)
        return np.clip(raw, *SCORE) if self.head == "ridge" else _sigmoid(raw)

    def save(self, path: str | Path) -> str:
        """Write the model; the answer is the file's SHA-256."""
        facts = {**self.facts, "kind": KIND, "version": VERSION, "head": self.head}
        arrays = {"weights": self.weights, "bias": np.array([self.bias], np.float32)}
        return write_arrays(path, {**facts, "size": len(self.weights)}, arrays)


def load_head(path: str | Path) -> HeadModel:
    """The head in a file that `save` wrote; WeightsError if it is anything else."""
    facts, arrays = read_arrays(path, KIND, VERSION)
    head, size = facts.pop("head", None), facts.pop("size", None)
    good = head in ("ridge", "logistic") and isinstance(size, int) and size > 0
    need(good, f"{path}: a head {head!r:.40} of size {size!r:.40}", error=WeightsError)
    weights, bias = take(arrays, "weights", (int(size or 0),), path), take(arrays, "bias", (1,), path)
    known = ("kind", "version")
    return HeadModel(str(head), weights, float(bias[0]), {k: v for k, v in facts.items() if k not in known})


def train_head(
    embeddings: np.ndarray, targets: Sequence[float], ids: Sequence[bytes], how: HeadTraining | None = None
) -> HeadModel:
    """Learn targets (scores, or 0 and 1 for a logistic head) from embeddings (rows, size)."""
    how = how or HeadTraining()
    order, is_dev = split_by_id(ids, how.dev_share, how.seed)
    wanted = np.asarray(targets, np.float64)
    _check(embeddings, wanted, ids, how)
    learn, dev = order[~is_dev[order]], order[is_dev[order]]
    need(len(learn) > 1 and len(dev) > 1, f"{len(ids)} rows are too few to learn from", error=DataError)
    inputs = np.asarray(embeddings[learn], np.float64)  # (N, D)
    middle, spread = inputs.mean(0), np.maximum(inputs.std(0), 1e-9)
    inputs = (inputs - middle) / spread
    fit = _ridge if how.head == "ridge" else _logistic
    weights, bias = fit(inputs, wanted[learn], how.penalty, how.most_steps)
    weights = weights / spread
    bias -= float(middle @ weights)
    raw = np.asarray(embeddings[dev], np.float64) @ weights + bias
    stretch, shift = fit(raw[:, None], wanted[dev], 1e-6, how.most_steps)
    if stretch[0] > 0:  # else the embeddings say nothing, and the plain fit tells as much
        weights, bias = weights * stretch[0], bias * float(stretch[0]) + shift
    facts: dict[str, Any] = {"rows": len(learn), "training": how.model_dump(mode="json")}
    model = HeadModel(how.head, weights.astype(np.float32), float(bias), facts)
    level = how.threshold if how.head == "ridge" else 0.5
    measured = measure_head(model.predict(np.asarray(embeddings[dev])), wanted[dev], level)
    facts["dev"] = {"rows": len(dev), **{name: one.value for name, one in measured.items()}}
    return model


def measure_head(
    scores: np.ndarray, targets: Sequence[float] | np.ndarray, threshold: float
) -> dict[str, Estimate]:
    """Precision, recall, F1 and AUC of "at least the threshold", each with its 95% interval."""
    return of_label(np.asarray(targets) >= threshold, scores >= threshold, scores)


def _check(embeddings: np.ndarray, wanted: np.ndarray, ids: Sequence[bytes], how: HeadTraining) -> None:
    shape = embeddings.shape
    good = embeddings.ndim == 2 and shape[0] == len(wanted) == len(ids)
    need(good, f"embeddings {shape} for {len(wanted)} targets and {len(ids)} ids", error=DataError)
    need(np.isfinite(embeddings).all(), "an embedding holds what is no number", error=DataError)
    low, high = SCORE if how.head == "ridge" else (0.0, 1.0)
    good = ((wanted >= low) & (wanted <= high)).all() and (
        how.head == "ridge" or np.isin(wanted, (0, 1)).all()
    )
    need(good, f"a {how.head} head learns targets from {low:g} to {high:g}", error=DataError)


def _ridge(
    inputs: np.ndarray, wanted: np.ndarray, penalty: float, most_steps: int
) -> tuple[np.ndarray, float]:
    """The weights with the least squared error plus penalty; exact, so no steps are taken."""
    middle = inputs.mean(0)
    free = inputs - middle
    gram = free.T @ free + penalty * np.eye(inputs.shape[1])  # (D, D)
    weights = np.linalg.solve(gram, free.T @ (wanted - wanted.mean()))
    return weights, float(wanted.mean() - middle @ weights)


def _logistic(
    inputs: np.ndarray, wanted: np.ndarray, penalty: float, most_steps: int
) -> tuple[np.ndarray, float]:
    """The weights with the least cross entropy plus penalty, by Newton's method; the bias is free."""
    wide = np.concatenate((inputs, np.ones((len(inputs), 1))), 1)  # (N, D+1)
    held = np.full(wide.shape[1], penalty)
    held[-1] = 1e-6
    weights = np.zeros(wide.shape[1])
    for _ in range(most_steps):
        chance = _sigmoid(wide @ weights)
        slope = wide.T @ (chance - wanted) + held * weights
        bend = (wide * (chance * (1 - chance))[:, None]).T @ wide + np.diag(held + 1e-9)
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, 10 / max(float(np.abs(step).max()), 1e-300))  # never leap: rows may be separable
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights[:-1], float(weights[-1])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))
