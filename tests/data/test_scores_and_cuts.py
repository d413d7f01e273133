import numpy as np
import pyarrow as pa
import pytest

from puna.data.classify.features import NgramSettings
from puna.data.classify.linear_head import HeadModel, HeadTraining
from puna.data.classify.ngrams import train_ngrams
from puna.data.classify.scores import (
    SHIPPED,
    Classify,
    Cut,
    ScoreEmbeddings,
    embeddings_of,
    model_path,
    threshold,
    write_quantiles,
)
from puna.data.document import documents, make_id
from puna.data.stage import KEEP
from puna.errors import ConfigError, DataError


def pages(*texts):
    rows = [
        {"id": make_id("t", str(at)), "source": "t", "url": "", "date": "", "text": text}
        for at, text in enumerate(texts)
    ]
    return documents(rows)


@pytest.fixture
def model(tmp_path):
    texts = [f"sun {at} rain" if at % 2 else f"tax {at} law" for at in range(60)]
    labels = ["weather" if at % 2 else "court" for at in range(60)]
    ids = [at.to_bytes(16, "big") for at in range(60)]
    train_ngrams(texts, labels, ids, NgramSettings(buckets=256)).save(tmp_path / "m")
    return str(tmp_path / "m")


def test_one_label_is_one_column_and_all_labels_are_one_each(model):
    table = pages("sun and rain", "tax law", "")
    one = Classify(model=model, score="weather", label="weather")
    scores = one(table)["q.weather"].to_pylist()
    assert scores[0] > 0.8 > 0.2 > scores[1] and scores[2] == 0.5
    every = Classify(model=model, score="topic")
    found = every(table)
    assert found["q.topic"].to_pylist()[:2] == ["weather", "court"]
    assert found["q.topic.weather"].to_pylist() == scores
    for stage in (one, every):
        added = stage(table).schema
        assert {name: added.field(name).type for name in stage.writes} == stage.writes
    with pytest.raises(ConfigError, match="court, weather"):
        Classify(model=model, score="x", label="sport")(table)


def test_another_model_under_the_same_name_is_another_stage(model, tmp_path):
    stage = Classify(model=model, score="weather", label="weather")
    before, scores = stage.fingerprint(), stage(pages("sun"))["q.weather"][0].as_py()
    texts, ids = ["sun a", "tax b"] * 20, [at.to_bytes(16, "big") for at in range(40)]
    train_ngrams(texts, ["court", "weather"] * 20, ids, NgramSettings(buckets=256)).save(model)
    assert stage.fingerprint() != before
    assert stage(pages("sun"))["q.weather"][0].as_py() < scores


def test_a_cut_drops_by_its_bounds_and_says_which_score():
    table = pages(*"abcd").append_column("q.fun", pa.array([0.1, 0.5, None, 0.9], pa.float32()))
    cut = Cut(score="fun", below=0.3, above=0.8)
    verdict = cut(table)
    assert cut.reasons == ("quality.fun",) and cut.reads == ("q.fun",)
    assert verdict.codes.tolist() == [0, KEEP, KEEP, 0]
    assert verdict.values[[0, 3]].tolist() == pytest.approx([0.1, 0.9])
    with pytest.raises(DataError, match=r"q\.sad"):
        Cut(score="sad", below=0.3)(table)


def test_the_best_share_is_that_of_the_sample(tmp_path):
    path = tmp_path / "q.json"
    scores = np.random.default_rng(0).random(5000)
    write_quantiles(path, "fun", [*scores, float("nan")])
    table = pages(*["x"] * 5000).append_column("q.fun", pa.array(scores))
    cut = Cut(score="fun", best=0.1, quantiles=str(path))
    assert (cut(table).codes == KEEP).mean() == pytest.approx(0.1, abs=0.002)
    assert Cut(score="fun", best=1.0, quantiles=str(path))(table).codes.max() == KEEP
    before = cut.fingerprint()
    write_quantiles(path, "fun", scores / 2)
    assert cut.fingerprint() != before
    with pytest.raises(DataError, match="'fun'"):
        threshold(path, "sad", 0.5)
    for data in (
        "{",
        "[]",
        "[" * 100_000,
        '{"version": 1, "quantiles": [2, 1]}',
        '{"score": "fun", "version": 1}',
    ):
        path.write_text(data)
        with pytest.raises(DataError):
            threshold(path, "fun", 0.5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"best": 0.5},
        {"quantiles": "q"},
        {"best": 0.1, "quantiles": "q", "below": 0.1},
        {"below": 0.1, "best": 2},
    ],
)
def test_a_cut_that_means_nothing_is_refused(values):
    with pytest.raises(ConfigError):
        Cut.read({"score": "fun", **values}, "here")
    with pytest.raises(ConfigError):
        Cut.read({"score": "Not A Name", "below": 0.1}, "here")


def test_a_head_scores_a_column_of_embeddings(tmp_path):
    head = HeadModel(
        "ridge", np.array([1.0, -1.0], np.float32), 1.0, {"training": HeadTraining().model_dump()}
    )
    head.save(tmp_path / "h")
    lists = pa.array([[2.0, 1.0], [9.0, 0.0], [0.0, 5.0]], pa.list_(pa.float32(), 2))
    table = pages(*"abc").append_column("e.mini", lists)
    stage = ScoreEmbeddings(model=str(tmp_path / "h"), score="edu", column="e.mini")
    assert stage(table)["q.edu"].to_pylist() == [2.0, 5.0, 0.0]
    assert stage(table.slice(1))["q.edu"].to_pylist() == [5.0, 0.0]
    assert stage(table.slice(0, 0))["q.edu"].to_pylist() == []
    assert stage.reads == ("e.mini",) and stage.fingerprint() != Cut(score="edu", below=3).fingerprint()


@pytest.mark.parametrize(
    "lists", [[[1.0], [1.0, 2.0]], [[1.0], None], [[1.0], [None]], [["a"], ["b"]], ["a", "b"]]
)
def test_columns_that_are_no_embeddings_are_refused(lists):
    with pytest.raises(DataError):
        embeddings_of(pages("a", "b").append_column("e", pa.array(lists)), "e")


def test_a_model_that_is_not_there_is_told():
    with pytest.raises(DataError, match="no such model"):
        model_path("nothing_of_that_name")
    for path in SHIPPED.glob("*.safetensors"):
        assert model_path(path.stem) == path
        assert path.stat().st_size < 300_000
