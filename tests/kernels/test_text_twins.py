"""The native text kernels give what their definitions give, bit for bit, on any bytes."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.kernels import text, text_reference
from tests.kernels.texts import BROKEN, BYTES, FIXTURES, column

native = pytest.importorskip("puna.kernels._native", reason="the native extension is not built")


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def hold(data, offsets):
    stops = np.array([text_reference.hash_of(word) for word in ("the", "of", "a", "don't")], np.uint64)
    for kernel in ("words", "line_hashes", "line_marks"):
        same(getattr(native, kernel)(data, offsets), getattr(text_reference, kernel)(data, offsets))
    for n in (1, 3, 13):
        same(native.ngrams(data, offsets, n), text_reference.ngrams(data, offsets, n))
    for short, repeats in ((2, True), (30, False)):
        arguments = data, offsets, stops, short, repeats
        same(native.counters(*arguments).T, text_reference.counters(*arguments).T)
    starts, ends, places = native.line_marks(data, offsets)[-3:]
    same(native.join_lines(data, starts, ends, places), text_reference.join_lines(data, starts, ends, places))
    for count, n in ((112, 5), (3, 1), (17, 2)):
        random = text.permutations(count, seed=n)
        same([native.minhash(data, offsets, *random, n)], [text_reference.minhash(data, offsets, *random, n)])


def test_twins_agree_on_every_script_and_on_bytes_that_are_no_text():
    hold(*column([*FIXTURES, *BROKEN]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(BYTES, max_size=4))
@example([])
def test_twins_agree_on_any_bytes(parts):
    hold(*column(parts))


def test_twins_agree_on_a_slice_of_a_column():
    data, offsets = column([*FIXTURES, *BROKEN])
    hold(data, offsets[3:-2])
    hold(data, offsets[5:6])


def test_every_instruction_set_gives_the_same_signatures():
    data, offsets = column([*FIXTURES, *BROKEN])
    for count in (1, 16, 112, 130):
        random = text.permutations(count, seed=9)
        want = text_reference.minhash(data, offsets, *random, 5)
        for instructions in native.instruction_sets():
            np.testing.assert_array_equal(native.minhash(data, offsets, *random, 5, instructions), want)


def test_characters_are_read_as_the_definition_reads_them():
    codes = [
        *range(0xD800),
        *range(0xE000, 0x20000),
        *range(0x20000, 0x110000, 61),
    ]  # Han and unassigned last
    every = [chr(code) for code in codes]
    blocks = ["".join(f"{c}a{c} " for c in every[i : i + 4096]) for i in range(0, len(every), 4096)]
    data, offsets = column(blocks)
    same(native.words(data, offsets), text_reference.words(data, offsets))
