import numpy as np
import pytest

from puna.data.array_file import write_arrays
from puna.data.classify.linear_head import HeadTraining, load_head, measure_head, train_head
from puna.errors import DataError, WeightsError

IDS = [at.to_bytes(16, "big") for at in range(6000)]


def scored(rows=6000, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(rows, 24)).astype(np.float32) * 5 + 2
    direction = np.random.default_rng(9).normal(size=24) / 25
    scores = np.clip((embeddings - 2) @ direction + 2.5 + noise * rng.normal(size=rows), 0, 5)
    return embeddings, scores


def test_a_ridge_head_finds_the_direction_and_stays_in_its_scale():
    head = train_head(*scored(), IDS)
    fresh, scores = scored(500, seed=1)
    said = head.predict(fresh)
    assert said.min() >= 0 and said.max() <= 5
    assert np.abs(said - scores).mean() < 0.3
    measured = measure_head(said, scores, 3.0)
    assert measured["f1"].value > 0.85
    assert measured["auc"].low > 0.95


def test_calibration_undoes_what_the_penalty_pulled_to_the_middle():
    fresh, scores = scored(500, seed=1)
    weak = train_head(*scored(), IDS, HeadTraining(penalty=20_000.0))
    assert np.polyfit(weak.predict(fresh), scores, 1)[0] == pytest.approx(1, abs=0.15)


def test_a_logistic_head_gives_chances_that_are_true():
    embeddings, scores = scored(noise=1.5)
    fresh, wanted = scored(500, noise=1.5, seed=1)
    head = train_head(embeddings, (scores >= 3).astype(float), IDS, HeadTraining(head="logistic"))
    said = head.predict(fresh)
    assert said.mean() == pytest.approx((wanted >= 3).mean(), abs=0.06)
    sure = said > 0.8
    assert (wanted >= 3)[sure].mean() > 0.8


def test_rows_that_a_line_parts_exactly_do_not_run_away():
    embeddings, scores = scored(noise=0)
    head = train_head(embeddings, (scores >= 2.5).astype(float), IDS, HeadTraining(head="logistic"))
    assert np.isfinite(head.weights).all()
    assert ((head.predict(embeddings) > 0.5) == (scores >= 2.5)).mean() > 0.97


def test_the_order_of_rows_changes_nothing(tmp_path):
    embeddings, scores = scored()
    order = np.random.default_rng(0).permutation(len(IDS))
    first = train_head(embeddings, scores, IDS)
    second = train_head(embeddings[order], scores[order], [IDS[at] for at in order])
    assert first.save(tmp_path / "a") == second.save(tmp_path / "b")
    loaded = load_head(tmp_path / "a")
    assert loaded.predict(embeddings).tolist() == first.predict(embeddings).tolist()
    assert loaded.facts == first.facts


@pytest.mark.parametrize("targets", [[7.0], [-1.0], [float("nan")]])
def test_targets_outside_the_scale_are_refused(targets):
    embeddings, scores = scored()
    scores[:1] = targets
    with pytest.raises(DataError, match="0 to 5"):
        train_head(embeddings, scores, IDS)


def test_embeddings_that_do_not_fit_are_refused(tmp_path):
    embeddings, scores = scored()
    head = train_head(embeddings, scores, IDS)
    with pytest.raises(DataError, match="24"):
        head.predict(np.zeros((2, 7), np.float32))
    embeddings[3, 4] = np.inf
    with pytest.raises(DataError, match="no number"):
        train_head(embeddings, scores, IDS)
    facts = {"kind": "head", "version": 1, "head": "ridge", "size": 3}
    one, two = np.zeros(1, np.float32), np.zeros(2, np.float32)
    for wrong, arrays in (({}, {"weights": two, "bias": one}), ({"head": "x"}, {}), ({"size": -1}, {})):
        write_arrays(tmp_path / "h", {**facts, **wrong}, arrays)
        with pytest.raises(WeightsError):
            load_head(tmp_path / "h")
