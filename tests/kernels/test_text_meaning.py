"""What the text kernels mean: facts a reader can check by hand, for whichever twin answers here."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from puna.errors import DataError
from puna.kernels import characters, text, text_reference
from tests.kernels.texts import BROKEN, FIXTURES, column


def words_of(sentence):
    data, offsets = column([sentence])
    found = text.words(data, offsets)
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


def test_case_and_apostrophes_do_not_part_words_but_accents_do():
    data, offsets = column(["DON’T ÉTÉ ΣΟΦΌΣ İ", "don't été σοφόσ i", "dont ete σοφος ı"])
    hashes = text.words(data, offsets).hashes.reshape(3, 4)
    assert (hashes[0] == hashes[1]).all() and (hashes[0] != hashes[2]).all()


def test_the_hash_of_a_word_stays_what_it_is():
    assert text.words(*column(["Puna"])).hashes.tolist() == [text_reference.hash_of("puna")]
    assert text_reference.hash_of("puna") == 1348259815748964720


def test_the_table_is_what_unicodedata_says():
    if unicodedata.unidata_version != "14.0.0":
        pytest.skip("the table is of Unicode 14, this Python is not")
    assert characters.TABLE.read_text("utf-8") == characters.table()


def test_spans_cut_the_text_at_its_own_bytes_even_where_it_is_broken():
    data, offsets = column([*BROKEN, "ok é"])
    found = text.words(data, offsets)
    last = data[found.starts[-1] : found.ends[-1]].tobytes()
    assert last == "é".encode() and found.lengths[-1] == 1
    for a, b in zip(found.starts, found.ends, strict=True):
        data[a:b].tobytes().decode()  # a word is always valid


def test_lines_cover_the_text_and_can_be_joined_again():
    data, offsets = column([*FIXTURES, *BROKEN])
    lines = text.line_hashes(data, offsets)
    again = text.join_lines(data, lines.starts, lines.ends, lines.offsets)
    np.testing.assert_array_equal(again[0], data)
    np.testing.assert_array_equal(again[1], offsets)


def test_a_line_is_the_same_line_whatever_white_space_is_around_it():
    lines = text.line_hashes(*column(["one line\n\t one line\r\n\u3000one line \n\n \nOne line"]))
    assert len(set(lines.hashes[:3].tolist())) == 1 and lines.hashes[5] != lines.hashes[0]
    assert lines.hashes[3:5].tolist() == [0, 0] and lines.lengths.tolist() == [8, 8, 8, 0, 0, 8]


def test_counters_count_what_they_say():
    page = "# One two. Is it? “Yes.”\n\n- a b c d e f ...\n- a b c d e f ...\n\n\nThe U.S. end, the end #2"
    count = {name: int(values[0]) for name, values in text.counters(*column([page]), ["the", "is"]).items()}
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
    assert text.counters(*column(texts))["sentences"].tolist() == [3, 1, 3, 3, 2, 0]


def test_repeats_can_be_left_out():
    whole, part = (text.counters(*column(FIXTURES), repeats=wanted) for wanted in (True, False))
    assert set(whole) - set(part) == set(text.REPEATS)
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
        one, two = text.minhash(*column([" ".join(left), " ".join(right)]), count=1024)
        assert abs((one == two).mean() - truth) < 0.05


def test_short_texts_sign_all_their_words_and_empty_ones_sign_nothing():
    signatures = text.minhash(*column(["Two words", "two, WORDS!", "words two", "", "?!"]))
    assert (signatures[0] == signatures[1]).all() and (signatures[0] != signatures[2]).any()
    assert (signatures[3:] == 0xFFFFFFFF).all() and signatures.dtype == np.uint32


def test_the_seed_chooses_the_permutations():
    one, same, other = (text.minhash(*column(["a b c d e f g"]), seed=seed) for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).mean() > 0.9


def test_ngrams_are_found_wherever_they_stand():
    data, offsets = column(["x y the quick brown fox.", "The QUICK, brown fox z", "quick brown"])
    grams = text.ngrams(data, offsets, 4)
    assert grams.offsets.tolist() == [0, 3, 5, 5]
    assert grams.hashes[2] == grams.hashes[3]
    assert data[grams.starts[3] : grams.ends[3]].tobytes() == b"The QUICK, brown fox"


@pytest.mark.parametrize("offsets", [[], [-1, 2], [0, 9], [0, 3, 2]])
def test_offsets_that_leave_the_bytes_are_an_error(offsets):
    with pytest.raises(DataError, match="leave"):
        text.words(np.zeros(4, np.uint8), np.array(offsets, np.int64))


def test_stop_words_must_be_words():
    with pytest.raises(DataError, match="one word"):
        text.counters(*column(["a"]), ["of the"])


def test_it_is_said_why_the_definitions_answer():
    probe = "import sys; sys.modules['puna.kernels._native'] = None; from puna.kernels import text; print(text.choose())"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "text_reference" in done.stdout and "the native extension is not built" in done.stdout
