"""Words and ranges as hashes mean what their plain definitions mean."""

import re
from itertools import chain

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.hashing import BASE, SPAN, buffers, is_in, range_hashes, values
from puna.data.filters.tokens import words
from tests.data.filter_rows import HOSTILE, of_texts

ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SIGNS = (
    "\\x00-/:-@\\[-`{-\xbf\u2000-\u2bff\u3000-\u303f\ufe30-\ufe4f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
    "\U0001f000-\U0001faff"
)
WORD = re.compile(f"[{ALONE}]|[^{SIGNS}{ALONE}]+")


def as_text(texts):
    data, offsets = buffers(of_texts(*texts)["text"])
    found = words(data, offsets)
    raw = [bytes(data[a:b]).decode() for a, b in zip(found.starts, found.ends, strict=True)]
    return [raw[a:b] for a, b in zip(found.first, found.first[1:], strict=False)], found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(), max_size=6))
def test_words_are_what_a_plain_expression_finds(texts):
    found, _ = as_text(texts)
    assert found == [WORD.findall(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aB1 é日-", max_size=30), max_size=8), st.integers(1, 4))
def test_equal_words_and_runs_have_equal_hashes_wherever_they_stand(texts, n):
    found, hashed = as_text(["x" * 70_000, *texts])
    same = {}
    for word, value in zip(chain.from_iterable(found), hashed.hashes.tolist(), strict=True):
        assert same.setdefault(re.sub("[A-Z]", lambda c: c[0].lower(), word), value) == value
    assert len(set(same.values())) == len(same)
    runs, places = hashed.ngrams(n)
    plain = [tuple(row[i : i + n]) for row in found for i in range(len(row) - n + 1)]
    assert len(plain) == len(runs) == len(places)
    lowered = [tuple(re.sub("[A-Z]", lambda c: c[0].lower(), w) for w in run) for run in plain]
    assert len(set(zip(lowered, runs.tolist(), strict=True))) == len(set(lowered)) == len(set(runs.tolist()))


def test_a_range_hash_is_the_polynomial_it_is_said_to_be():
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, 3 * SPAN + 17, np.uint8)
    starts = np.sort(rng.integers(0, len(data), 200))
    ends = np.minimum(np.sort(starts + rng.integers(0, 40, 200)), len(data))
    ends = np.maximum(ends, starts)
    value = values(False)

    def slowly(piece):
        x = (sum(int(value[c]) * pow(BASE, i, 1 << 64) for i, c in enumerate(piece)) + len(piece)) % (1 << 64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = (x ^ (x >> shift)) * factor % (1 << 64)
        return x

    fast = range_hashes(data, starts, ends, value).tolist()
    assert fast == [slowly(data[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]


def test_digits_count_as_one_where_asked():
    data, offsets = buffers(of_texts("at 12 and 97", "at 12 and 123")["text"])
    plain, folded = words(data, offsets).hashes, words(data, offsets, fold_digits=True).hashes
    assert plain[1] != plain[3]
    assert folded[1] == folded[3] != folded[7]


def test_membership_is_that_of_a_set():
    rng = np.random.default_rng(1)
    known = np.unique(rng.integers(0, 1000, 300, np.uint64))
    asked = rng.integers(0, 1000, 500, np.uint64)
    assert (is_in(asked, known) == np.isin(asked, known)).all()
    assert not is_in(asked, known[:0]).any() and not len(is_in(asked[:0], known))


def test_hostile_text_is_cut_into_words_too():
    found, _ = as_text(HOSTILE)
    assert found[2] == ["a" * 1_000_000]
    assert len(found[HOSTILE.index("日本語" * 30_000)]) == 90_000


def test_a_slice_of_a_table_has_the_words_of_its_own_rows():
    table = of_texts("one two", "three", "four five six").slice(1)
    found = words(*buffers(table["text"]))
    assert np.diff(found.first).tolist() == [1, 3]
