"""Listed words are counted whole, in any script, and what is counted is cut where the recipe says."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.listed import DIRTY
from puna.data.filters.safety import SafetyScores, SafetyWords, SafetyWordsGate
from puna.data.filters.words import DirtyWords, DirtyWordsGate
from tests.data.filter_rows import HOSTILE, of_texts, reasons


def test_whole_words_count_and_parts_of_words_do_not():
    texts = [
        "Spam, SPAM and spammers",
        "ham-spam_eggs!",
        "ŠPINA špina",
        "blue  parrot; blue. Parrot blueparrot",
        "他说坏词了",
        "",
    ]
    table = DirtyWords(words=("spam", "špina", "blue parrot", "坏词"))(of_texts(*texts))
    assert table["words.dirty"].to_pylist() == [2, 1, 2, 2, 1, 0]
    assert table["words.count"].to_pylist() == [4, 3, 2, 5, 5, 0]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["ab", "cd", "ef", "gh"])).map(" ".join), max_size=5),
    st.lists(st.sampled_from(["ab", "cd ef", "ab cd gh", "gh"]), unique=True),
)
def test_counts_are_those_of_an_expression_that_looks_ahead(texts, listed):
    plain = [sum(len(re.findall(rf"(?=\b{entry}\b)", text)) for entry in listed) for text in texts]
    assert DirtyWords(words=tuple(listed))(of_texts(*texts))["words.dirty"].to_pylist() == plain


def test_one_dirty_word_is_enough_unless_the_recipe_asks_for_more():
    table = of_texts(*"abc", **{"words.count": [100, 100, 100_000], "words.dirty": [0, 1, 3]})
    assert reasons(DirtyWordsGate(), table) == [None, "words.dirty", "words.dirty"]
    assert reasons(DirtyWordsGate(most=2), table) == [None, None, "words.dirty"]
    assert reasons(DirtyWordsGate(most_share=0.001), table) == [None, "words.dirty", None]
    assert DirtyWordsGate()(table).values.tolist() == [0, 1, 3]


def test_lists_of_files_count_like_given_ones_and_change_the_fingerprint(tmp_path):
    listed = tmp_path / "words.txt"
    listed.write_text("# ours\nspam\nblue parrot\n")
    stage = DirtyWords(words=(), files=(str(listed),))
    assert stage(of_texts("spam blue parrot"))["words.dirty"].to_pylist() == [2]
    before = stage.fingerprint()
    listed.write_text("eggs\n")
    assert stage(of_texts("spam blue parrot"))["words.dirty"].to_pylist() == [0]
    assert stage.fingerprint() != before


def test_our_own_list_has_each_word_once_and_spares_plain_text():
    words = " ".join(DIRTY.values()).split()
    assert len(words) == len(set(words)) and len(DIRTY) >= 6
    table = DirtyWords()(
        of_texts(*words, "The Essex doctor spoke about breast cancer, sex education and cocks crowing.")
    )
    assert table["words.dirty"].to_pylist() == [1] * len(words) + [0]


def test_safety_cuts_by_the_density_of_words():
    table = SafetyWords(nsfw=("bad",), toxic=("vile", "foul thing"))(
        of_texts("bad " * 6 + "x " * 994, "bad " + "x " * 999, "a foul thing", "")
    )
    assert table["safety.nsfw"].to_pylist() == pytest.approx([6, 1, 0, 0])
    assert reasons(SafetyWordsGate(), table) == ["safety.nsfw_words", None, "safety.toxic_words", None]


def test_safety_cuts_by_a_classifiers_scores_and_leaves_what_it_did_not_judge():
    scores = {
        "q.nsfw": pa.array([0.5, 0.1, None, 0.4], pa.float32()),
        "q.toxic": pa.array([0.9, 0.7, None, 0.4], pa.float32()),
    }
    table = of_texts(*"abcd", **scores)
    assert reasons(SafetyScores(), table) == ["safety.nsfw", "safety.toxic", None, None]
    assert np.allclose(SafetyScores()(table).values, [0.5, 0.7, 0, 0])


def test_hostile_text_is_counted():
    assert len(DirtyWords()(of_texts(*HOSTILE))) == len(SafetyWords()(of_texts(*HOSTILE))) == len(HOSTILE)
