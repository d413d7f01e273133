"""Blocks hold every row once, and what is cut out of texts is exactly the spans that were named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.dedup.cutting import cut_out
from puna.data.document import blocks, text_buffers
from tests.data.planted import table

NOWHERE = np.zeros(0, np.int64)


@pytest.mark.parametrize("most", [1, 7, 50, 10**6])
def test_blocks_hold_every_row_once(most):
    texts = ["x" * int(n) for n in np.random.default_rng(1).integers(0, 20, 40)] + ["", "y" * 100, ""]
    data, offsets = text_buffers(table(texts))
    seen = []
    for first, part, places in blocks(data, offsets, most):
        assert first == len(seen) and (len(part) <= most or len(places) == 2)
        seen += cut_out(part, places, NOWHERE, NOWHERE).to_pylist()
    assert seen == texts


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(st.tuples(st.text("aé日", min_size=1, max_size=4), st.booleans()), max_size=5), max_size=5
    )
)
def test_what_is_cut_out_is_gone_and_all_else_stays(rows):
    data, offsets = text_buffers(table(["".join(part for part, _ in row) for row in rows]))
    starts, stops, at = [], [], 0
    for part, gone in (pair for row in rows for pair in row):
        if gone:
            starts.append(at)
            stops.append(at + len(part.encode()))
        at += len(part.encode())
    left = cut_out(data, offsets, np.array(starts, np.int64), np.array(stops, np.int64))
    assert left.to_pylist() == ["".join(part for part, gone in row if not gone) for row in rows]
