"""The native text kernels give what their definitions give, bit for bit, on any bytes."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from puna.kernels import text_reference
from puna.kernels.alike import permutations
from puna.kernels.words import Meaning, sieve
from tests.kernels.texts import BROKEN, BYTES, FIXTURES, column

native = pytest.importorskip("puna.kernels._native", reason="the native extension is not built")


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def hold(data, offsets):
    stops = np.array([text_reference.hash_of(word) for word in ("the", "of", "a", "don't")], np.uint64)
    for kernel in ("line_hashes", "line_marks"):
        same(getattr(native, kernel)(data, offsets), getattr(text_reference, kernel)(data, offsets))
    for meaning in get_args(Meaning):
        found = native.words(data, offsets, meaning)
        same(found, text_reference.words(data, offsets, meaning))
    hold_hashes(found[0], found[3])
    for short, repeats in ((2, True), (30, False)):
        arguments = data, offsets, stops, short, repeats
        same(native.counters(*arguments).T, text_reference.counters(*arguments).T)
    starts, ends, places = native.line_marks(data, offsets)[-3:]
    for feeds in (True, False):
        spans = data, starts, ends, places, feeds
        same(native.join_spans(*spans), text_reference.join_spans(*spans))
    for count, n, fewest in ((112, 5, 1), (3, 1, 4), (17, 2, 0)):
        asked = data, offsets, *permutations(count, seed=n), n, fewest
        same([native.minhash(*asked)], [text_reference.minhash(*asked)])


def hold_hashes(hashes, first):
    for n in (1, 3, 13):
        same(native.runs(hashes, first, n), text_reference.runs(hashes, first, n))
        for times in (1, 2):
            arguments = hashes, first, n, times
            same([native.said_before(*arguments)], [text_reference.said_before(*arguments)])
    sets = native.sets(hashes, first)
    same(sets, text_reference.sets(hashes, first))
    left = np.arange(len(first) - 1)
    same([native.shared(*sets, left, left[::-1].copy())], [text_reference.shared(*sets, left, left[::-1])])
    known = np.unique(hashes[::2])
    asked = hashes, known, sieve(known)
    same(native.lookup(*asked), text_reference.lookup(*asked))
    runs = native.runs(hashes, first, 2)[0]
    asked = hashes, first, 2, np.unique(runs[::3]), sieve(np.unique(runs[::3]))
    same(native.known_runs(*asked), text_reference.known_runs(*asked))


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
        random = permutations(count, seed=9)
        want = text_reference.minhash(data, offsets, *random, 5, 1)
        for instructions in native.instruction_sets():
            np.testing.assert_array_equal(native.minhash(data, offsets, *random, 5, 1, instructions), want)


def test_characters_are_read_as_the_definition_reads_them():
    codes = [
        *range(0xD800),
        *range(0xE000, 0x20000),
        *range(0x20000, 0x110000, 61),
    ]  # Han and unassigned last
    every = [chr(code) for code in codes]
    blocks = ["".join(f"{c}a{c} " for c in every[i : i + 4096]) for i in range(0, len(every), 4096)]
    data, offsets = column(blocks)
    for meaning in get_args(Meaning):
        same(native.words(data, offsets, meaning), text_reference.words(data, offsets, meaning))
