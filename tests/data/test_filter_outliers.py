"""Divergence from the corpus is the textbook's, over words counted in any order, and finds what is not language."""

import math
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.outliers import BITS, Outliers, WordDivergence, counts_of, write_counts
from puna.errors import DataError
from tests.data.filter_rows import HOSTILE, of_texts, reasons

DICE = random.Random(11)
VOCABULARY = ["".join(DICE.choices("abcdefghijklmnop", k=DICE.randint(2, 9))) for _ in range(3000)]
SHARES = [1 / (i + 3) for i in range(len(VOCABULARY))]


def prose(words):
    return " ".join(DICE.choices(VOCABULARY, SHARES, k=words))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(texts, the file of their counts)."""
    texts, path = [prose(400) for _ in range(300)], str(tmp_path_factory.mktemp("counts") / "en.npy")
    write_counts(path, counts_of(of_texts(*texts)))
    return texts, path


def test_counts_add_up_in_any_order(corpus):
    texts, path = corpus
    parts = [counts_of(of_texts(*texts[i : i + 7])) for i in range(0, len(texts), 7)]
    assert (sum(reversed(parts)) == np.load(path)).all() and np.load(path).sum() == 300 * 400


def test_divergence_is_the_textbooks_but_for_words_that_share_a_counter(corpus):
    texts, path = corpus
    counts, documents = Counter(" ".join(texts).split()), [prose(200), prose(60), "zzz qqq " * 40]
    measured = WordDivergence(counts={"en": path})(of_texts(*documents, lang=["en"] * 3))["q.kl"].to_pylist()
    for text, value in zip(documents, measured, strict=True):
        words = Counter(text.split())
        total = sum(words.values())
        plain = sum(
            n / total * math.log(n / total * (120_000 + (1 << BITS)) / (counts[w] + 1))
            for w, n in words.items()
        )
        assert value == pytest.approx(plain, rel=0.02)


def test_what_is_not_the_language_stands_out(corpus):
    _, path = corpus
    codes = " ".join("".join(DICE.choices("abcdefghijklmnop0123456789", k=8)) for _ in range(300))
    table = WordDivergence(counts={"*": path})(
        of_texts(*(prose(300) for _ in range(20)), codes, lang=["en"] * 21)
    )
    values = table["q.kl"].to_pylist()
    assert values[-1] > 2 * max(values[:-1])
    assert reasons(Outliers(most=(values[-1] + max(values[:-1])) / 2), table) == [None] * 20 + ["outliers.kl"]


def test_nothing_is_said_of_short_texts_or_of_languages_without_counts(corpus):
    _, path = corpus
    stage = WordDivergence(counts={"en": path})
    table = stage(of_texts(prose(49), prose(50), prose(80), "", lang=["en", "en", "fr", "en"]))
    assert [value is None for value in table["q.kl"].to_pylist()] == [True, False, True, True]
    assert reasons(Outliers(most=0.0), table) == [None, "outliers.kl", None, None]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab cd ", max_size=40), min_size=1, max_size=6))
def test_a_row_does_not_depend_on_its_neighbours_and_is_never_negative(corpus, texts):
    stage = WordDivergence(counts={"*": corpus[1]}, least_words=1)
    together = stage(of_texts(*texts, lang=["en"] * len(texts)))["q.kl"].to_pylist()
    assert together == [stage(of_texts(text, lang=["en"]))["q.kl"][0].as_py() for text in texts]
    assert all(value is None or value >= 0 for value in together)


def test_counts_are_part_of_the_fingerprint_and_a_broken_file_is_told(corpus, tmp_path):
    path = str(tmp_path / "x.npy")
    write_counts(path, counts_of(of_texts("a b c")))
    before = WordDivergence(counts={"en": path}).fingerprint()
    write_counts(path, counts_of(of_texts("a b d")))
    assert WordDivergence(counts={"en": path}).fingerprint() != before
    for content in (b"", b"not numpy", b"\x93NUMPY\x01\x00"):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(DataError, match="count the corpus again"):
            WordDivergence(counts={"en": str(tmp_path / "bad.npy")})(of_texts(prose(60), lang=["en"]))
    np.save(tmp_path / "small.npy", np.zeros(5, np.uint64))
    with pytest.raises(DataError, match="counts of words"):
        WordDivergence(counts={"en": str(tmp_path / "small.npy")})(of_texts(prose(60), lang=["en"]))
    with pytest.raises(DataError, match="no such list"):
        WordDivergence(counts={"en": "nowhere.npy"})(of_texts(prose(60), lang=["en"]))


def test_hostile_text_is_measured(corpus):
    table = WordDivergence(counts={"*": corpus[1]}, least_words=1)(
        of_texts(*HOSTILE, lang=["xx"] * len(HOSTILE))
    )
    assert table["q.kl"].type == pa.float32() and all(
        v is None or math.isfinite(v) for v in table["q.kl"].to_pylist()
    )
