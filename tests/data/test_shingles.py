"""Words, runs and blocks of a column of bytes are those that a plain reading of each text gives."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.dedup.shingles import blocks, cut_out, runs, span_hashes, words
from puna.data.document import text_buffers
from tests.data.planted import table

SPACELESS = "\u0e00-\u0eff\u1000-\u10bf\u1780-\u17ff\u3040-\u9fff"  # Thai, Lao, Burmese, Khmer, kana, Chinese
APART = "\u0080-\u00bf\u2000-\u207f\u3000-\u303f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff3f"
WORD = re.compile(f"[{SPACELESS}]|(?:[0-9A-Za-z]|[^\0-\x7f{APART}{SPACELESS}])+")
LETTERS = "abAB09 .-_\n\t'\u00e9\u00df\u0130\u00ab\u00a0\u201c\u2014\u4f60\u597d\u3002\u306e\uff0c\uff21\uff11\u0e01\u0e33\u1780\uac00\u0645\U0001f600\U00020000"
TEXTS = st.lists(st.one_of(st.text(LETTERS, max_size=30), st.text(max_size=20)), max_size=8)


def plain(texts):
    return [(row, word) for row, text in enumerate(texts) for word in WORD.findall(text)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS)
def test_words_are_those_of_the_plain_definition(texts):
    data, offsets = text_buffers(table(texts))
    starts, ends, rows = words(data, offsets)
    found = [(row, data[a:b].tobytes().decode()) for row, a, b in zip(rows, starts, ends, strict=True)]
    assert found == plain(texts)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(TEXTS, st.integers(1, 4))
def test_runs_hash_alike_if_and_only_if_their_words_are_alike(texts, size):
    data, offsets = text_buffers(table(texts))
    starts, ends, rows = words(data, offsets)
    hashes, at = runs(span_hashes(data, starts, ends), rows, size)
    lower = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
    said = [(row, word.translate(lower)) for row, word in plain(texts)]
    whole = [n for n in range(len(said) - size + 1) if said[n][0] == said[n + size - 1][0]]
    assert at.tolist() == whole
    named = {tuple(word for _, word in said[n : n + size]): h for n, h in zip(whole, hashes, strict=True)}
    assert [named[tuple(word for _, word in said[n : n + size])] for n in whole] == hashes.tolist()
    assert len(set(named.values())) == len(named)


@pytest.mark.parametrize("most", [1, 7, 50, 10**6])
def test_blocks_hold_every_row_once(most):
    texts = ["x" * int(n) for n in np.random.default_rng(1).integers(0, 20, 40)] + ["", "y" * 100, ""]
    data, offsets = text_buffers(table(texts))
    seen = []
    for first, part, places in blocks(data, offsets, most):
        assert first == len(seen) and (len(part) <= most or len(places) == 2)
        seen += cut_out(part, places, np.zeros(0, int), np.zeros(0, int))
    assert seen == texts
