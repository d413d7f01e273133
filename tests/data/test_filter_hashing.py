"""Ranges of bytes as hashes mean what their plain definition means."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.filters.hashing import BASE, buffers, is_in, range_hashes
from tests.data.filter_rows import of_texts


def slowly(piece):
    """A polynomial of the bytes, each one more than it is, and their number, then mixed."""
    x = (sum((c + 1) * pow(BASE, i, 1 << 64) for i, c in enumerate(piece)) + len(piece)) % (1 << 64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = (x ^ (x >> shift)) * factor % (1 << 64)
    return x


def test_a_range_hash_is_the_polynomial_it_is_said_to_be():
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, 10_000).astype(np.uint8)
    starts = rng.integers(100, len(data), 200)
    ends = np.minimum(starts + rng.integers(0, 40, 200), len(data))
    assert range_hashes(data, starts, ends).tolist() == [
        slowly(data[a:b].tolist()) for a, b in zip(starts, ends, strict=True)
    ]
    assert not len(range_hashes(data, starts[:0], ends[:0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=12))
def test_equal_texts_have_equal_hashes_wherever_they_stand_and_others_have_others(texts):
    data, offsets = buffers(of_texts("x" * 1000, *texts, *texts)["text"])
    hashes = range_hashes(data, offsets[:-1], offsets[1:]).tolist()[1:]
    assert hashes[: len(texts)] == hashes[len(texts) :]
    assert len(set(hashes)) == len(set(texts))


def test_membership_is_that_of_a_set():
    rng = np.random.default_rng(1)
    known = np.unique(rng.integers(0, 1000, 300, np.uint64))
    asked = rng.integers(0, 1000, 500, np.uint64)
    assert (is_in(asked, known) == np.isin(asked, known)).all()
    assert not is_in(asked, known[:0]).any() and not len(is_in(asked[:0], known))


def test_a_slice_of_a_table_has_its_own_rows():
    data, offsets = buffers(of_texts("one two", "three", "four").slice(1)["text"])
    assert [data[a:b].tobytes() for a, b in pairwise(offsets)] == [b"three", b"four"]
