import math

import numpy as np
import pytest

from puna.data.classify.measure import auc, calibration_error, f1, report, wilson
from puna.errors import DataError


def test_wilsons_interval_is_the_published_one():
    found = wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert wilson(10, 10).low == pytest.approx(0.7225, abs=1e-4)
    assert (wilson(10, 10).value, wilson(10, 10).high) == (1.0, pytest.approx(1))
    assert math.isnan(wilson(0, 0).value)


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    truth, score = rng.random(200) < 0.4, rng.integers(0, 20, 200) / 20
    pairs = [(y > n) + (y == n) / 2 for y in score[truth] for n in score[~truth]]
    assert auc(truth, score).value == pytest.approx(np.mean(pairs))
    assert auc(truth, truth).value == 1
    assert auc(truth, ~truth).value == 0
    assert math.isnan(auc(np.ones(5, bool), np.arange(5)).value)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """AUC of two normal distributions one deviation apart is Phi(1 / sqrt 2)."""
    rng, inside = np.random.default_rng(1), 0
    right = 0.5 * (1 + math.erf(0.5))
    for turn in range(60):
        truth = np.arange(150) % 2 == 0
        found = auc(truth, rng.normal(size=150) + truth, seed=turn)
        inside += found.low <= right <= found.high
    assert inside >= 51


def test_f1_is_between_precision_and_recall_and_has_an_interval():
    truth, said = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool), np.array([1, 1, 0, 1, 0, 0, 1, 0], bool)
    found = f1(truth, said)
    assert found.value == pytest.approx(2 * 0.75 * 0.75 / 1.5)
    assert found.low < found.value < found.high


def test_calibration_error_of_a_model_that_is_too_sure():
    chances = np.tile([0.9, 0.1], (100, 1))
    wanted = np.array([0] * 60 + [1] * 40)
    assert calibration_error(chances, wanted).value == pytest.approx(0.3)
    assert calibration_error(np.tile([0.6, 0.4], (100, 1)), wanted).value == pytest.approx(0)


def test_a_report_counts_every_row_once_and_says_the_same_again():
    rng = np.random.default_rng(2)
    names, truth = ["a", "b", "c"], rng.choice(["a", "b", "c"], 90).tolist()
    chances = rng.dirichlet([1, 1, 1], 90)
    groups = rng.choice(["de", "fr"], 90).tolist()
    found = report(names, truth, chances, groups)
    assert found == report(names, truth, chances, groups)
    assert np.sum(found["confusion"]) == 90
    assert sum(part["rows"] for part in found["groups"].values()) == 90
    both = np.sum([part["confusion"] for part in found["groups"].values()], 0)
    assert both.tolist() == found["confusion"]
    said = chances.argmax(1)
    hits = sum(label == "b" and at == 1 for label, at in zip(truth, said, strict=True))
    assert found["labels"]["b"]["recall"]["value"] == pytest.approx(hits / truth.count("b"))
    assert found["labels"]["b"]["precision"]["value"] == pytest.approx(hits / (said == 1).sum())


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="none of a, b"):
        report(["a", "b"], ["c"], np.ones((1, 2)))
    with pytest.raises(DataError, match="chances"):
        report(["a", "b"], ["a"], np.ones((2, 2)))
