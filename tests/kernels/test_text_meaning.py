"""What the text kernels mean: facts a reader can check by hand, for whichever twin answers here."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import DataError
from puna.kernels import alike, characters, counters, lines, text_reference, words
from tests.kernels.texts import BROKEN, FIXTURES, column


def words_of(sentence):
    data, offsets = column([sentence])
    found = words.words(data, offsets)
    return [data[a:b].tobytes().decode() for a, b in zip(found.starts, found.ends, strict=True)]


@pytest.mark.parametrize(
    "sentence, wanted",
    [
        (
            "Don’t stop: O'Brien's 'quoted' 3,000 words_",
            ["Don’t", "stop", "O'Brien's", "quoted", "3", "000", "words"],
        ),
        ("我读书2遍", ["我", "读", "书", "2", "遍"]),
        ("カタカナー ｶﾞ", ["カ", "タ", "カ", "ナ", "ー", "ｶ", "ﾞ"]),
        ("ทำ e\u0301té नमस्ते", ["ท", "ำ", "e\u0301té", "नमस्ते"]),
        ("안녕 می‌خواهم \u0301 👍🏽", ["안녕", "می‌خواهم"]),
    ],
)
def test_words_are_what_unicode_calls_letters_marks_and_numbers(sentence, wanted):
    assert words_of(sentence) == wanted


def test_digits_can_count_alike():
    data, offsets = column(["at 12:30 on the 4th", "at 97:01 on the ٣th"])
    plain, alike_ = (
        words.words(data, offsets, meaning).hashes.reshape(2, 6) for meaning in ("plain", "digits_alike")
    )
    assert (alike_[0] == alike_[1]).all() and (plain[0] == plain[1]).tolist() == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_case_and_apostrophes_do_not_part_words_but_accents_do():
    data, offsets = column(["DON’T ÉTÉ ΣΟΦΌΣ İ", "don't été σοφόσ i", "dont ete σοφος ı"])
    hashes = words.words(data, offsets).hashes.reshape(3, 4)
    assert (hashes[0] == hashes[1]).all() and (hashes[0] != hashes[2]).all()


def test_the_hash_of_a_word_stays_what_it_is():
    assert words.words(*column(["Puna"])).hashes.tolist() == [text_reference.hash_of("puna")]
    assert text_reference.hash_of("puna") == 1348259815748964720


def test_the_table_is_what_unicodedata_says():
    if unicodedata.unidata_version != "14.0.0":
        pytest.skip("the table is of Unicode 14, this Python is not")
    assert characters.TABLE.read_text("utf-8") == characters.table()


def test_spans_cut_the_text_at_its_own_bytes_even_where_it_is_broken():
    data, offsets = column([*BROKEN, "ok é"])
    found = words.words(data, offsets)
    last = data[found.starts[-1] : found.ends[-1]].tobytes()
    assert last == "é".encode()
    for a, b in zip(found.starts, found.ends, strict=True):
        data[a:b].tobytes().decode()  # a word is always valid


def test_lines_cover_the_text_and_can_be_joined_again():
    data, offsets = column([*FIXTURES, *BROKEN])
    found = lines.line_hashes(data, offsets)
    again = lines.join_spans(data, found.starts, found.ends, found.offsets, feeds=True)
    np.testing.assert_array_equal(again[0], data)
    np.testing.assert_array_equal(again[1], offsets)


def test_a_line_is_the_same_line_whatever_white_space_is_around_it():
    found = lines.line_hashes(*column(["one line\n\t one line\r\n\u3000one line \n\n \nOne line"]))
    assert len(set(found.hashes[:3].tolist())) == 1 and found.hashes[5] != found.hashes[0]
    assert found.hashes[3:5].tolist() == [0, 0] and found.lengths.tolist() == [8, 8, 8, 0, 0, 8]


def test_counters_count_what_they_say():
    page = "# One two. Is it? “Yes.”\n\n- a b c d e f ...\n- a b c d e f ...\n\n\nThe U.S. end, the end #2"
    count = {
        name: int(values[0]) for name, values in counters.counters(*column([page]), ["the", "is"]).items()
    }
    wanted = {"words": 24, "hashes": 2, "ellipses": 2, "stop_words": 2, "newlines": 6, "lines": 4}
    wanted |= {"bullet_lines": 2, "ellipsis_lines": 2, "terminal_lines": 2, "short_lines": 4, "paragraphs": 3}
    wanted |= {"duplicate_lines": 1, "duplicate_line_characters": 17, "duplicate_paragraphs": 0}
    wanted |= {"top_2_gram_characters": 6, "duplicate_5_gram_characters": 5, "duplicate_7_gram_characters": 0}
    wanted |= {"characters": len(page), "alphabetic_words": 23}
    assert {name: count[name] for name in wanted} == wanted


def test_sentences_end_in_any_script_and_not_inside_numbers():
    texts = [
        "One. Two? Three!",
        "It costs 3.50 at x.com now",
        "终わり。はい！次",
        "He said “no.” Then “yes!” (Maybe.) ...",
        "यह है। वह है।",
        "... ! ?",
    ]
    assert counters.counters(*column(texts))["sentences"].tolist() == [3, 1, 3, 3, 2, 0]


def test_repeats_can_be_left_out():
    whole, part = (counters.counters(*column(FIXTURES), repeats=wanted) for wanted in (True, False))
    assert set(whole) - set(part) == set(counters.REPEATS)
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name])


def test_signatures_estimate_how_alike_two_texts_are():
    rng = np.random.default_rng(3)
    vocabulary = [f"w{i}" for i in range(400)]
    left = [vocabulary[i] for i in rng.integers(0, 400, 300)]
    for changed in (0, 5, 20, 60):
        right = left.copy()
        for i in rng.choice(300, changed, replace=False):
            right[i] = "new"
        sets = [{tuple(side[i : i + 5]) for i in range(296)} for side in (left, right)]
        truth = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        one, two = alike.minhash(*column([" ".join(left), " ".join(right)]), count=1024)
        assert abs((one == two).mean() - truth) < 0.05


def test_short_texts_sign_all_their_words_and_empty_ones_sign_nothing():
    signatures = alike.minhash(*column(["Two words", "two, WORDS!", "words two", "", "?!"]))
    assert (signatures[0] == signatures[1]).all() and (signatures[0] != signatures[2]).any()
    assert (signatures[3:] == 0xFFFFFFFF).all() and signatures.dtype == np.uint32
    three = alike.minhash(*column(["one two", "one two three"]), fewest=3)
    assert (three[0] == 0xFFFFFFFF).all() and (three[1] != 0xFFFFFFFF).any()


def test_the_seed_chooses_the_permutations():
    one, same, other = (alike.minhash(*column(["a b c d e f g"]), seed=seed) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).mean() > 0.9


def test_runs_are_found_wherever_they_stand_and_stay_within_their_text():
    data, offsets = column(["x y the quick brown fox.", "The QUICK, brown fox z", "quick brown"])
    found = words.words(data, offsets)
    grams = words.runs(found.hashes, found.first, 4)
    assert grams.offsets.tolist() == [0, 3, 5, 5] and grams.words.tolist() == [0, 1, 2, 6, 7]
    assert grams.hashes[2] == grams.hashes[3] and len(set(grams.hashes.tolist())) == 4
    assert len(words.runs(found.hashes, found.first, 9).hashes) == 0


def test_what_was_said_before_is_marked_within_its_own_text():
    data, offsets = column(["a b a b c a b", "a b"])
    found = words.words(data, offsets)
    marks = [words.said_before(found.hashes, found.first, 2, times).tolist() for times in (1, 2)]
    assert marks[0] == [False, False, True, True, False, True, True, False, False]
    assert marks[1] == [False] * 5 + [True, True] + [False] * 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 2**64 - 1), max_size=50), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_lookup_finds_known_hashes_with_a_sieve_and_without(known, others):
    known = np.array(sorted(known), np.uint64)
    asked = np.array([*others, *known.tolist()[::2], *others], np.uint64)
    for bits in (None, words.sieve(known)):
        which, places = words.lookup(asked, known, bits)
        assert which.tolist() == np.flatnonzero(np.isin(asked, known)).tolist()
        assert (known[places] == asked[which]).all()


def test_what_two_texts_share_is_counted_in_full():
    data, offsets = column(["a b c a b c d", "c b a", "x"])
    found = words.words(data, offsets)
    hashes, places = alike.sets(found.hashes, found.first)
    assert np.diff(places).tolist() == [4, 3, 1]
    pairs = np.array([0, 0, 1, 2]), np.array([1, 2, 1, 0])
    assert alike.shared(hashes, places, *pairs).tolist() == [3, 0, 3, 0]
    with pytest.raises(DataError, match="not there"):
        alike.shared(hashes, places, np.array([0]), np.array([3]))


def test_spans_that_leave_the_bytes_are_an_error():
    with pytest.raises(DataError, match="leave"):
        lines.join_spans(np.zeros(4, np.uint8), np.array([0]), np.array([5]), np.array([0, 1]))


@pytest.mark.parametrize("offsets", [[], [-1, 2], [0, 9], [0, 3, 2]])
def test_offsets_that_leave_the_bytes_are_an_error(offsets):
    with pytest.raises(DataError, match="leave"):
        words.words(np.zeros(4, np.uint8), np.array(offsets, np.int64))


def test_stop_words_must_be_words():
    with pytest.raises(DataError, match="one word"):
        counters.counters(*column(["a"]), ["of the"])


def test_it_is_said_why_the_definitions_answer():
    probe = "import sys; sys.modules['puna.kernels._native'] = None; from puna.kernels import text; print(text.choose())"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "text_reference" in done.stdout and "the native extension is not built" in done.stdout
