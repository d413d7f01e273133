"""Every kernel of the native forward step equals its definition, with each set of instructions."""

import numpy as np
import pytest

from puna.kernels import llama, llama_reference
from puna.quant.blocks import decode, encode

if reason := llama.works_here():
    pytest.skip(reason, allow_module_level=True)

NATIVE = llama.native()
PLAIN = ("F16", "BF16", "F32")
each_machine = pytest.mark.parametrize("instructions", NATIVE.instructions())


def stored(kind, rows, inputs, seed=0):
    """Weights like a model's, as a file stores them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, inputs), dtype=np.float32) * rng.choice([0.01, 0.1, 1.0], (rows, 1))
    return encode(kind, values.astype(np.float32))


@pytest.mark.parametrize("kind", llama.PACKED)
def test_packing_loses_nothing(kind):
    for rows, inputs in ((16, 256), (48, 512), (21, 768)):
        data, back = stored(kind, rows, inputs), np.empty((rows, inputs), np.float32)
        NATIVE.packed_and_back(kind, data, back)
        np.testing.assert_array_equal(back, decode(kind, data, (rows, inputs)))


@each_machine
@pytest.mark.parametrize("kind", llama.PACKED)
def test_a_product_is_that_of_the_dequantised_weights_and_the_coded_inputs(kind, instructions):
    rng = np.random.default_rng(1)
    for rows, outputs, inputs in ((1, 16, 256), (3, 48, 512), (8, 16, 256), (27, 32, 768)):
        data = stored(kind, outputs, inputs, rows)
        x = rng.standard_normal((rows, inputs), dtype=np.float32) * rng.choice([0.1, 30], (rows, 1)).astype(
            np.float32
        )
        x[0, :64] = 0  # a block without a scale
        got, weights = np.empty((rows, outputs), np.float32), decode(kind, data, (outputs, inputs))
        NATIVE.multiply(instructions, kind, data, x, got)
        want = llama_reference.multiply(weights, x, kind in PLAIN)
        size = np.abs(x).astype(np.float64) @ np.abs(weights).astype(np.float64).T
        assert np.abs(got - want).max() <= 2e-6 * size.max(), (rows, outputs, inputs)
        assert (np.abs(got - want) <= 2e-6 * size + 1e-30).all()


@each_machine
@pytest.mark.parametrize("kind", llama.PACKED)
def test_a_row_does_not_depend_on_the_rows_beside_it(kind, instructions):
    x = np.random.default_rng(2).standard_normal((41, 512), dtype=np.float32)
    data, together = stored(kind, 16, 512), np.empty((41, 16), np.float32)
    NATIVE.multiply(instructions, kind, data, x, together)
    for first, last in ((0, 1), (3, 5), (7, 15), (20, 33), (29, 41)):
        some = np.empty((last - first, 16), np.float32)
        NATIVE.multiply(instructions, kind, data, np.ascontiguousarray(x[first:last]), some)
        np.testing.assert_array_equal(some, together[first:last])


@each_machine
def test_norm_and_gate_equal_their_definitions(instructions):
    rng = np.random.default_rng(3)
    for n in (16, 576, 2048):
        x, weight = rng.standard_normal((2, n), dtype=np.float32)
        got = np.empty((1, n), np.float32)
        NATIVE.norm(instructions, x, weight, 1e-5, got)
        np.testing.assert_allclose(got[0], llama_reference.norm(x, weight, 1e-5), rtol=3e-6, atol=1e-6)
        wide = np.concatenate((x * 20, [0, 1e-9, -1e4, 1e4] * 4)).astype(np.float32)
        up = rng.standard_normal(len(wide), dtype=np.float32)
        got = wide[None].copy()
        NATIVE.gate(instructions, got, up)
        np.testing.assert_allclose(got[0], llama_reference.gate(wide, up), rtol=2e-6, atol=1e-30)


@each_machine
def test_heads_are_turned_and_narrowed_as_defined(instructions):
    rng = np.random.default_rng(4)
    for width in (16, 48, 128):
        heads, angles = rng.standard_normal((3, width), dtype=np.float32), rng.uniform(-9, 9, width // 2)
        cos, sin = np.repeat(np.cos(angles), 2), np.repeat(np.sin(angles), 2) * np.tile([-1, 1], width // 2)
        got = heads.copy()
        NATIVE.turn(instructions, got, np.concatenate((cos, sin)).astype(np.float32))
        np.testing.assert_allclose(got, llama_reference.turn(heads, angles), atol=2e-6)
    ties = (np.arange(64, dtype=np.uint32) * 0x8000 + 0x3F80_0000).view(np.float32)
    for numbers, scale in ((ties, 1.0), (-ties, 1.0), (rng.standard_normal(4096).astype(np.float32), 0.125)):
        out = np.empty((1, len(numbers)), np.uint16)
        NATIVE.narrow(instructions, numbers, scale, out)
        np.testing.assert_array_equal(out[0], llama_reference.narrow(numbers, scale))


@each_machine
def test_numbers_become_whole_ones_as_defined(instructions):
    rng = np.random.default_rng(5)
    for width in (16, 80, 512):
        rows = rng.standard_normal((40, width)) * 10.0 ** rng.uniform(-25, 25, (40, 1))
        rows[0], rows[1], rows[2] = 0, 1e-36, np.arange(width) - width // 2  # nothing, nearly nothing, ties
        rows = rows.astype(np.float32)
        for write, dtype, most in ((NATIVE.to_bytes, np.int8, 127), (NATIVE.to_words, np.int16, 32_767)):
            want, scales = llama_reference.whole(rows, most)
            got = np.empty((1, width), dtype)
            for row, codes, scale in zip(rows, want, scales, strict=True):
                assert write(instructions, row, got) == scale
                np.testing.assert_array_equal(got[0], codes)
            for broken in (np.nan, np.inf, -np.inf):
                assert np.isnan(write(instructions, np.append(rows[3, :-1], np.float32(broken)), got))


def attention(instructions, width, rows, count, page, coded):
    """Numbers of queries, keys and values, how many positions each query sees, and what comes of it."""
    rng = np.random.default_rng(width)
    numbers = rng.standard_normal((rows + 2 * count, width)).astype(np.float32)
    numbers[:rows] *= 2 * width**-0.5
    numbers[rows + count :] *= rng.choice([0.1, 1, 10], (count, 1))
    seen = np.sort(rng.integers(1, count + 1, rows)).astype(np.int32)
    seen[-1] = count
    got, three = np.empty((rows, width), np.float32), np.split(numbers, [rows, rows + count])
    NATIVE.attend(instructions, coded, *(some.ravel() for some in three), seen, page, got)
    return *three, seen, got


EXTENTS = ((1, 1, 16), (3, 33, 32), (4, 700, 32), (8, 300, 16), (7, 257, 64))


@each_machine
@pytest.mark.parametrize("width", [16, 64, 80, 128, 256])
def test_attention_over_pages_is_that_of_the_textbook(instructions, width):
    for rows, count, page in EXTENTS:
        *numbers, seen, got = attention(instructions, width, rows, count, page, False)
        bits = (llama_reference.narrow(some.ravel(), 1.0).reshape(some.shape) for some in numbers)
        want = llama_reference.attend(*map(llama_reference.widen, bits), seen)
        assert np.abs(got - want).max() <= 2**-8 * np.abs(numbers[2]).max()  # weights are mixed in bf16


@each_machine
@pytest.mark.parametrize("width", [16, 64, 80, 128, 256, 512])
def test_attention_over_codes_is_that_of_the_dequantised_numbers(instructions, width):
    for rows, count, page in EXTENTS:
        queries, keys, values, seen, got = attention(instructions, width, rows, count, page, True)
        known = (codes * scales[:, None].astype(np.float64)
                 for codes, scales in (llama_reference.whole(some, 127) for some in (keys, values)))  # fmt: skip
        most = np.abs(values).max()
        near = np.abs(got - llama_reference.attend(queries, *known, seen)).max() / most
        exact = np.abs(got - llama_reference.attend(queries, keys, values, seen)).max() / most
        assert near <= 2**-13  # queries and weights have 15 bits and a sign
        assert exact <= 2**-6


@each_machine
def test_sums_of_codes_stay_within_32_bits_and_what_is_not_finite_is_not_hidden(instructions):
    count, width = 600, 512
    ones = np.ones((count, width), np.float32)
    got, seen = np.empty((1, width), np.float32), np.array([count], np.int32)
    NATIVE.attend(instructions, True, ones[0], ones.ravel(), -3 * ones.ravel(), seen, 32, got)
    np.testing.assert_allclose(got, -3 * ones[:1], rtol=1e-6)
    for broken in (np.nan, np.inf):
        values = ones.copy()
        values[5, 3] = broken
        NATIVE.attend(instructions, True, ones[0], ones.ravel(), values.ravel(), seen, 32, got)
        assert np.isnan(got).all()
        NATIVE.attend(instructions, True, ones[0], ones.ravel(), values.ravel(), seen // 600 * 5, 32, got)
        np.testing.assert_allclose(got, ones[:1], rtol=1e-6)  # of what comes later a query knows nothing


def test_what_does_not_fit_is_refused():
    x, out = np.zeros((1, 100), np.float32), np.zeros((1, 16), np.float32)
    with pytest.raises(ValueError, match="do not divide into blocks"):
        NATIVE.multiply("", "Q4_0", np.zeros(10, np.uint8), x, out)
    with pytest.raises(ValueError, match="no packed form of Q2_K"):
        NATIVE.multiply("", "Q2_K", np.zeros(10, np.uint8), x, out)
    with pytest.raises(ValueError, match="this machine has no sse"):
        NATIVE.norm("sse", x[0], x[0], 1e-5, x)
