"""How good a classifier is on rows it has not seen: every figure with its 95% interval, the same every time.

Shares have Wilson's interval; F1, AUC and calibration error have a bootstrap's, whose draws are hashes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from puna.data.classify.features import mix
from puna.errors import DataError, need

_Z = 1.959963984540054  # 95% of a normal distribution lie within that many standard deviations
_ROUNDS = 200  # of the bootstrap
_BINS = 15  # of the calibration error, as Guo et al. 2017 have them


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval, from `count` rows; nan where no row says anything."""

    value: float
    low: float
    high: float
    count: int


def report(
    names: Sequence[str],
    truth: Sequence[str],
    chances: np.ndarray,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures as plain values, ready for JSON: over all rows, for each label, and for each group.

    names: the labels; truth: the right one of each row; chances (rows, labels): the probabilities given.
    groups: of what language or source each row is.
    """
    wanted = np.array([_place(names, label) for label in truth], np.int64)
    good = chances.shape == (len(wanted), len(names)) and len(wanted) > 0
    need(good, f"{len(wanted)} right labels for chances {chances.shape}", error=DataError)
    said = chances.argmax(1)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (wanted, said), 1)
    found: dict[str, Any] = {
        "rows": len(wanted),
        "accuracy": asdict(wilson(int((said == wanted).sum()), len(wanted))),
        "calibration_error": asdict(calibration_error(chances, wanted, seed)),
        "confusion": confusion.tolist(),  # of the right label (row), how often which (column) was said
        "labels": {
            name: {
                kind: asdict(one)
                for kind, one in of_label(wanted == at, said == at, chances[:, at], seed).items()
            }
            for at, name in enumerate(names)
        },
    }
    if groups is not None:
        parts = np.array(groups)
        found["groups"] = {
            str(part): _of_group(wanted[parts == part], said[parts == part], len(names))
            for part in np.unique(parts)
        }
    return found


def of_label(truth: np.ndarray, said: np.ndarray, score: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """Precision, recall, F1 of what was said and AUC of the score, for one yes-or-no question."""
    truth, said = np.asarray(truth, bool), np.asarray(said, bool)
    hits = int((truth & said).sum())
    return {
        "precision": wilson(hits, int(said.sum())),
        "recall": wilson(hits, int(truth.sum())),
        "f1": f1(truth, said, seed),
        "auc": auc(truth, score, seed),
    }


def wilson(hits: int, count: int) -> Estimate:
    """The share of hits; the interval stays within 0 and 1 and has a width even where all are hits."""
    if not count:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    share, spread = hits / count, _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return Estimate(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)), count)


def f1(truth: np.ndarray, said: np.ndarray, seed: int = 0) -> Estimate:
    """The harmonic mean of precision and recall."""

    def of(weights: np.ndarray) -> float:
        parts = weights[truth & said].sum(), weights[truth].sum() + weights[said].sum()
        return float(2 * parts[0] / parts[1]) if parts[1] else float("nan")

    return _bootstrap(of, len(truth), seed)


def auc(truth: np.ndarray, score: np.ndarray, seed: int = 0) -> Estimate:
    """How often a row where it is true has the higher score than one where it is not; ties count half."""
    truth = np.asarray(truth, bool)
    _, rank = np.unique(score, return_inverse=True)

    def of(weights: np.ndarray) -> float:
        size = int(rank.max()) + 1 if len(rank) else 0
        yes = np.bincount(rank[truth], weights[truth], size)
        no = np.bincount(rank[~truth], weights[~truth], size)
        pairs = yes.sum() * no.sum()
        return float((yes * (np.cumsum(no) - no / 2)).sum() / pairs) if pairs else float("nan")

    return _bootstrap(of, len(truth), seed)


def calibration_error(chances: np.ndarray, wanted: np.ndarray, seed: int = 0) -> Estimate:
    """By how much the chance given to what was said differs from how often it was right, on average."""
    chance = chances.max(1)
    right = (chances.argmax(1) == wanted).astype(np.float64)
    part = np.minimum((chance * _BINS).astype(np.int64), _BINS - 1)

    def of(weights: np.ndarray) -> float:
        gap = np.bincount(part, weights * (right - chance), _BINS)
        return float(np.abs(gap).sum() / weights.sum()) if weights.sum() else float("nan")

    return _bootstrap(of, len(wanted), seed)


def _of_group(wanted: np.ndarray, said: np.ndarray, labels: int) -> dict[str, Any]:
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (wanted, said), 1)
    return {
        "rows": len(wanted),
        "accuracy": asdict(wilson(int((wanted == said).sum()), len(wanted))),
        "confusion": confusion.tolist(),
    }


def _place(names: Sequence[str], label: str) -> int:
    need(label in names, f"label {label!r} is none of {', '.join(names)}", error=DataError)
    return list(names).index(label)


def _bootstrap(of: Any, rows: int, seed: int) -> Estimate:
    """`of(weights)` with every row once, and its middle 95% over rows drawn with replacement."""
    if not rows:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    found = []
    for turn in range(_ROUNDS):
        start = mix(np.array([seed % (1 << 64), turn], np.uint64))
        drawn = mix(np.arange(rows, dtype=np.uint64) + mix(start[:1] + start[1:])) >> np.uint64(32)
        picked = (drawn * np.uint64(rows) >> np.uint64(32)).astype(np.int64)
        found.append(of(np.bincount(picked, minlength=rows).astype(np.float64)))
    usable = [one for one in found if one == one]
    low, high = np.quantile(usable, [0.025, 0.975]) if usable else (float("nan"), float("nan"))
    return Estimate(of(np.ones(rows)), float(low), float(high), rows)
