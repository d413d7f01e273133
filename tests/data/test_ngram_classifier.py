import hashlib
import json
import random

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from puna.data.array_file import write_arrays
from puna.data.classify.features import NgramSettings, buckets_of
from puna.data.classify.ngrams import (
    NgramModel,
    NgramTraining,
    load_ngrams,
    split_by_id,
    sum_by_text,
    train_ngrams,
)
from puna.errors import ConfigError, DataError, WeightsError

SMALL = NgramSettings(buckets=1 << 12)
SUBJECTS, VERBS = (
    ["river", "stone", "child", "teacher", "wind", "garden", "letter", "village"],
    ["sees", "finds", "keeps", "paints"],
)


def corpus(rows=600, seed=0):
    """Sentences in good order, and the same words shuffled: only the pairs tell."""
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(rows):
        words = [
            w
            for _ in range(8)
            for w in ("the", rng.choice(SUBJECTS), rng.choice(VERBS), "a", rng.choice(SUBJECTS))
        ]
        label = rng.choice(("order", "shuffled"))
        if label == "shuffled":
            rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    ids = [hashlib.blake2b(f"{at}".encode(), digest_size=16).digest() for at in range(rows)]
    return texts, labels, ids


@pytest.fixture(scope="module")
def trained():
    return train_ngrams(*corpus(), SMALL)


def accuracy(model, texts, labels):
    said = model.predict(texts).argmax(1)
    return np.mean([model.labels[at] == label for at, label in zip(said, labels, strict=True)])


def test_it_learns_what_only_pairs_of_words_tell(trained):
    texts, labels, _ = corpus(300, seed=1)
    assert accuracy(trained, texts, labels) > 0.95
    single = train_ngrams(*corpus(), NgramSettings(buckets=1 << 12, words=1))
    assert accuracy(single, texts, labels) < 0.7


def test_the_model_depends_on_the_rows_and_not_on_their_order(trained, tmp_path):
    texts, labels, ids = corpus()
    order = list(range(len(ids)))
    random.Random(5).shuffle(order)
    again = train_ngrams(
        [texts[i] for i in order], [labels[i] for i in order], [ids[i] for i in order], SMALL
    )
    assert again.save(tmp_path / "again") == trained.save(tmp_path / "first")
    other = train_ngrams(texts, labels, ids, SMALL, NgramTraining(seed=1))
    assert not np.array_equal(other.table, trained.table)


def test_a_step_follows_the_gradient_of_the_cross_entropy():
    """One text in one batch: what changed is the rate times the difference quotient of the loss."""
    from puna.data.classify.ngrams import _noise, softmax

    texts, labels, ids = ["a b", "c d e"], ["x", "y"], [b"0" * 16, b"1" * 16]
    how = NgramTraining(epochs=1, batch=2, dev_share=0, size=3, rate=1e-3, balance=False)
    settings = NgramSettings(buckets=64, words=1)
    vectors = _noise(64, 3, 0).astype(np.float64)
    weights = np.zeros((2, 3))
    rows = buckets_of(texts, settings)

    def loss(v, w):
        total = 0.0
        for at in range(2):
            hidden = v[rows.buckets[rows.offsets[at] : rows.offsets[at + 1]]].mean(0)
            total -= np.log(softmax(w @ hidden)[at])
        return total

    slope = np.zeros_like(weights)
    for place in np.ndindex(*weights.shape):
        step = np.zeros_like(weights)
        step[place] = 1e-5
        slope[place] = (loss(vectors, weights + step) - loss(vectors, weights - step)) / 2e-5
    model = train_ngrams(texts, labels, ids, settings, how)
    table = vectors @ (-1e-3 * slope).T  # to first order; the vectors' own change is smaller by the rate
    table[np.setdiff1d(np.arange(64), rows.buckets)] = 0
    np.testing.assert_allclose(model.table, table - table.mean(1, keepdims=True), atol=2e-7)


def test_a_label_that_is_rare_weighs_as_much_as_the_others():
    texts, labels, ids = corpus(900)
    rare = [i for i, label in enumerate(labels) if label == "shuffled"][:25]
    keep = sorted(rare + [i for i, label in enumerate(labels) if label == "order"])
    some = [[column[i] for i in keep] for column in (texts, labels, ids)]
    fresh, wanted, _ = corpus(300, seed=2)
    shuffled = [text for text, label in zip(fresh, wanted, strict=True) if label == "shuffled"]
    found = [
        (
            train_ngrams(*some, SMALL, NgramTraining(balance=balance, epochs=1)).predict(shuffled).argmax(1)
            == 1
        ).mean()
        for balance in (False, True)
    ]
    assert found[1] > found[0] + 0.1


def test_patience_stops_early_and_none_is_the_default():
    texts, labels, ids = corpus(120)
    rng = random.Random(0)
    noise = [rng.choice(labels) for _ in labels]  # nothing to learn: the dev loss rises
    stopped = train_ngrams(texts, noise, ids, SMALL, NgramTraining(patience=1, epochs=40, dev_share=0.3))
    whole = train_ngrams(texts, noise, ids, SMALL, NgramTraining(epochs=40, dev_share=0.3))
    assert stopped.facts["dev"]["loss"] < whole.facts["dev"]["loss"]


def test_prediction_alone_equals_prediction_among_others(trained):
    texts = [*corpus(700, seed=3)[0], "", "one", "日本語"]
    together = trained.predict(texts)
    alone = np.concatenate([trained.predict([text]) for text in texts[-20:]])
    np.testing.assert_allclose(together[-20:], alone, rtol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
    assert trained.predict([]).shape == (0, 2)
    assert together[-3].tolist() == [0.5, 0.5]  # an empty text says nothing


@pytest.mark.parametrize(("storage", "worst"), [("float32", 0), ("float16", 2e-3), ("int8", 0.1)])
def test_what_is_saved_is_what_is_loaded(trained, tmp_path, storage, worst):
    texts, _, _ = corpus(200, seed=4)
    trained.save(tmp_path / "m", storage)
    loaded = load_ngrams(tmp_path / "m")
    assert (loaded.labels, loaded.features, loaded.facts) == (trained.labels, trained.features, trained.facts)
    np.testing.assert_allclose(loaded.predict(texts), trained.predict(texts), atol=worst)
    assert (loaded.predict(texts).argmax(1) == trained.predict(texts).argmax(1)).mean() > 0.97


def test_character_ngrams_see_inside_words():
    texts, ids = [], []
    rng = random.Random(0)
    labels = [rng.choice(("ing", "ed")) for _ in range(300)]
    for at, label in enumerate(labels):
        texts.append(" ".join("".join(rng.choices("bcdfglmnoprst", k=6)) + label for _ in range(3)))
        ids.append(at.to_bytes(16, "big"))
    fresh = ["zzzzing", "yyyyed"]
    inside = train_ngrams(texts, labels, ids, NgramSettings(buckets=1 << 14, characters=(2, 4)))
    assert [inside.labels[at] for at in inside.predict(fresh).argmax(1)] == ["ing", "ed"]
    whole = train_ngrams(texts, labels, ids, NgramSettings(buckets=1 << 14))
    np.testing.assert_allclose(whole.predict(fresh), 0.5, atol=0.05)


def test_features_count_every_ngram_of_a_text():
    found = buckets_of(["a b c", "", "a"], NgramSettings(words=2, characters=(2, 3)))
    assert found.counts().tolist() == [5 + 4 + 3, 0, 1]  # words and pairs, characters by two, by three
    assert found.buckets.max() < 1 << 18
    assert buckets_of(["a b " * 100], NgramSettings(most_characters=4)).counts().tolist() == [3]


def test_sums_by_text_are_zero_where_there_is_nothing():
    assert sum_by_text(np.arange(4.0), np.array([0, 0, 3, 3, 4, 4])).tolist() == [0, 3, 0, 3, 0]


def test_the_split_is_by_id_and_has_the_share():
    ids = [at.to_bytes(16, "big") for at in range(4000)]
    order, dev = split_by_id(ids, 0.1, 0)
    assert sorted(order.tolist()) == list(range(4000))
    assert 330 < dev.sum() < 470
    some = split_by_id(ids[1000:2000], 0.1, 0)[1]
    assert some.tolist() == dev[1000:2000].tolist()
    assert split_by_id(ids, 0.1, 1)[1].tolist() != dev.tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, n, i: (t, ["one"] * len(t), i), "cannot be told apart"),
        (lambda t, n, i: (t, n, [i[0]] * len(t)), "same id"),
        (lambda t, n, i: (t[1:], n, i), "texts"),
        (lambda t, n, i: (t, n, [b"short"] * len(t)), "16 bytes"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(change, said):
    with pytest.raises(DataError, match=said):
        train_ngrams(*change(*corpus(20)), SMALL)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError):
        NgramSettings.read({"characters": [5, 2]}, "here")
    with pytest.raises(WeightsError, match="float16"):
        NgramModel(
            ("a", "b"), SMALL, np.full((1 << 12, 2), 1e9, np.float32), np.zeros(2, np.float32), {}
        ).save("never", "float16")


def hostile(trained, path):
    """(what is wrong, bytes) of files that are not what they say."""
    trained.save(path)
    good, arrays = path.read_bytes(), load_file(path)
    facts = {"kind": "ngrams", "version": 1, "labels": ["a", "b"], "features": {"buckets": 1 << 12}}

    def of(**changes):
        return save(arrays, {"puna.arrays": json.dumps({**facts, **changes})})

    yield "cut short", good[: len(good) // 2]
    yield "empty", b""
    yield "a long header", (1 << 62).to_bytes(8, "little") + b"{}"
    yield "not JSON", save(arrays, {"puna.arrays": "{"})
    yield "deep JSON", save(arrays, {"puna.arrays": "[" * 100_000})
    yield "no facts", save(arrays)
    yield "a list", save(arrays, {"puna.arrays": "[]"})
    yield "kind", of(kind="head")
    yield "version", of(version=2)
    for labels in (None, ["a"], ["a", "a"], [1, 2], ["a", "b", "c"]):
        yield "labels", of(labels=labels)
    for features in (3, {"buckets": 1 << 13}, {"buckets": 1 << 40}, {"bucket": 5}):
        yield "features", of(features=features)
    wrong = {**arrays, "table": np.full_like(arrays["table"], np.nan)}
    yield "not numbers", save(wrong, {"puna.arrays": json.dumps(facts)})
    yield "strange type", save({**arrays, "bias": np.zeros(2, np.int64)}, {"puna.arrays": json.dumps(facts)})
    yield "a missing array", save({"table": arrays["table"]}, {"puna.arrays": json.dumps(facts)})


def test_a_file_that_is_not_what_it_says_is_refused(trained, tmp_path):
    path = tmp_path / "m"
    for what, data in hostile(trained, path):
        path.write_bytes(data)
        with pytest.raises(WeightsError):
            load_ngrams(path)
            pytest.fail(what)
    with pytest.raises(WeightsError, match="no such file"):
        load_ngrams(tmp_path / "none")


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    first = write_arrays(tmp_path / "a", {"x": 1, "y": 2}, {"b": np.ones(3), "a": np.zeros(2)})
    second = write_arrays(tmp_path / "b", {"y": 2, "x": 1}, {"a": np.zeros(2), "b": np.ones(3)})
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
