"""Laws of the block formats: what a file's bytes mean, and what bytes stand for given values."""

import tracemalloc

import numpy as np
import pytest

from puna.errors import WeightsError
from puna.quant.blocks import CHUNK, LAYOUTS, PLAIN, decode, encode, pack, unpack
from puna.quant.formats import FORMATS

gguf = pytest.importorskip("gguf", reason="the package gguf is the oracle of every block format")

BLOCKS = [kind for kind in FORMATS if kind not in PLAIN]
SIMPLE = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
STRANGE_HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01]
BIGGEST_MISS = {  # of a value, as a share of its block's largest magnitude
    "Q8_0": 0.0045,
    "Q4_0": 0.15,
    "Q4_1": 0.075,
    "Q5_0": 0.075,
    "Q5_1": 0.035,
    "Q2_K": 0.7,
    "Q3_K": 0.4,
    "Q4_K": 0.15,
    "Q5_K": 0.08,
    "Q6_K": 0.06,
    "IQ4_NL": 0.17,
    "IQ4_XS": 0.17,
}


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32) * 0.02


def their_decode(kind: str, data: np.ndarray, rows: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.dequantize(data.reshape(rows, -1), gguf.GGMLQuantizationType[kind])


def assert_same_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal to the last bit and the sign of zero; a NaN equals any NaN."""
    same = ours.view(np.uint32) == theirs.view(np.uint32)
    assert (same | (np.isnan(ours) & np.isnan(theirs))).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_random_bytes_decode_to_the_reference_s_bits(kind):
    data = np.random.default_rng(1).integers(0, 256, 3 * CHUNK * FORMATS[kind].size // 256, dtype=np.uint8)
    data = data[: len(data) // (6 * FORMATS[kind].size) * 6 * FORMATS[kind].size]
    data = np.frombuffer(data.tobytes(), np.uint8)  # read-only, as a mapped file is
    theirs = their_decode(kind, data, 6)
    assert_same_bits(decode(kind, data, theirs.shape), theirs)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("half", STRANGE_HALVES)
def test_scales_that_are_tiny_infinite_or_no_number_decode_like_the_reference_s(kind, half):
    form = FORMATS[kind]
    blocks = np.random.default_rng(2).integers(0, 256, (8, form.size), dtype=np.uint8)
    place = 0
    for field in LAYOUTS[kind]:
        if field.bits == 16:
            blocks[::2, place : place + 2] = np.frombuffer(np.uint16(half).tobytes(), np.uint8)
        place += field.size
    theirs = their_decode(kind, blocks, 8)
    assert_same_bits(decode(kind, blocks.reshape(-1), theirs.shape), theirs)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_table_of_formats_is_the_reference_s(kind):
    type_ = gguf.GGMLQuantizationType[kind]
    assert (FORMATS[kind].number, (FORMATS[kind].values, FORMATS[kind].size)) == (
        type_.value,
        tuple(gguf.GGML_QUANT_SIZES[type_]),
    )


@pytest.mark.parametrize("kind", BLOCKS)
def test_unpacking_and_packing_again_changes_no_byte(kind):
    blocks = np.random.default_rng(3).integers(0, 256, (500, FORMATS[kind].size), dtype=np.uint8)
    for field, start in zip(LAYOUTS[kind], np.cumsum([0, *(f.size for f in LAYOUTS[kind])]), strict=False):
        if field.bits == 16:
            blocks[:, start + 1] &= 0x3B  # no NaN, whose spare bits float32 does not keep
    np.testing.assert_array_equal(pack(kind, unpack(kind, blocks)), blocks)


@pytest.mark.parametrize("kind", ["F16", "BF16", *SIMPLE])
def test_plain_and_simple_kinds_encode_to_the_reference_s_bytes(kind):
    values = weights(300, 1024)
    values[0, :32], values[1], values[2, :32], values[3] = 0, 0.5, -0.25, np.round(values[3] * 500) / 4
    theirs = gguf.quantize(values, gguf.GGMLQuantizationType[kind]).reshape(-1).view(np.uint8)
    np.testing.assert_array_equal(encode(kind, values), theirs)


@pytest.mark.parametrize("kind", BLOCKS)
def test_encoded_values_come_back_near(kind):
    values = weights(64, 1024)
    back = decode(kind, encode(kind, values), values.shape)
    grouped = (-1, FORMATS[kind].values)
    largest = np.abs(values).reshape(grouped).max(axis=1)
    miss = np.abs(back - values).reshape(grouped).max(axis=1) / largest
    assert miss.max() < BIGGEST_MISS[kind]


@pytest.mark.parametrize("kind", SIMPLE)
def test_what_a_simple_kind_already_holds_keeps_its_bytes(kind):
    once = encode(kind, weights(64, 1024))
    np.testing.assert_array_equal(encode(kind, decode(kind, once, (64, 1024))), once)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_what_a_plain_kind_already_holds_keeps_its_bytes_strange_numbers_too(kind):
    data = np.random.default_rng(4).integers(0, 256, 2**14, dtype=np.uint8)
    values = decode(kind, data, (2**14 // FORMATS[kind].size,))
    once = encode(kind, values)
    numbers = np.repeat(~np.isnan(values), FORMATS[kind].size)
    np.testing.assert_array_equal(once[numbers], data[numbers])
    np.testing.assert_array_equal(decode(kind, once, values.shape), values)


@pytest.mark.parametrize("kind", BLOCKS)
def test_each_row_encodes_as_if_it_were_alone_on_any_number_of_threads(kind):
    values = weights(40, 4096)
    together = encode(kind, values, threads=3).reshape(40, -1)
    np.testing.assert_array_equal(together.reshape(-1), encode(kind, values, threads=1))
    for row in (0, 17, 39):
        np.testing.assert_array_equal(encode(kind, values[row : row + 1]), together[row])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrower_and_strided_values_encode_like_float32_in_order(kind, dtype):
    values = weights(32, 512).astype(dtype)[::2, ::2]
    np.testing.assert_array_equal(encode(kind, values), encode(kind, values.astype(np.float32).copy()))


@pytest.mark.parametrize("kind", FORMATS)
def test_zeros_stay_zeros_and_constants_stay_near(kind):
    for constant in (0.0, 0.5, -0.25, 3e-5):
        values = np.full((2, 512), constant, np.float32)
        back = decode(kind, encode(kind, values), values.shape)
        np.testing.assert_allclose(back, values, rtol=0.06, atol=1e-7)


@pytest.mark.parametrize("kind", BLOCKS)
def test_values_too_small_for_a_half_precision_scale_become_nearly_zero(kind):
    for size in (1e-9, 1e-38, 1e-44):
        values = weights(2, 512) * np.float32(size)
        assert np.abs(decode(kind, encode(kind, values), values.shape)).max() < 1e-6


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_finite_number_is_an_error_that_names_its_block(kind, bad):
    values = weights(300, 512)
    values[257, 300] = bad
    size = FORMATS[kind].values
    first = 300 // size * size
    with pytest.raises(WeightsError, match=f"x.weight: row 257, columns {first} to {first + size - 1}: 1 of"):
        encode(kind, values, where="x.weight")


@pytest.mark.parametrize("kind", ["F16", *BLOCKS])
def test_values_too_large_for_the_kind_are_an_error_that_says_so(kind):
    values = weights(3, 512)
    values[2, 0] = 3e38
    with pytest.raises(
        WeightsError, match=rf"row 2, columns 0 to .*3e\+38 are too large for {kind}\n  try: BF16"
    ):
        encode(kind, values)


def test_a_number_that_bf16_would_round_to_infinity_is_an_error():
    with pytest.raises(WeightsError, match="too large for BF16"):
        encode("BF16", np.full((1, 4), np.finfo(np.float32).max))


@pytest.mark.parametrize("kind", BLOCKS)
def test_rows_that_do_not_divide_into_blocks_are_an_error(kind):
    with pytest.raises(WeightsError, match=f"rows of 48 are not whole {kind} blocks"):
        encode(kind, weights(4, 48))
    with pytest.raises(WeightsError, match=f"rows of 48 are not whole {kind} blocks"):
        decode(kind, np.zeros(4 * 48, np.uint8), (4, 48))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("extra", [-1, 1])
def test_bytes_that_do_not_fit_the_shape_are_an_error(kind, extra):
    size = 2 * 256 * FORMATS[kind].size // FORMATS[kind].values
    with pytest.raises(WeightsError, match=rf"{kind} of shape \(2, 256\) takes {size:,}"):
        decode(kind, np.zeros(size + extra, np.uint8), (2, 256))


def test_a_shape_larger_than_any_memory_is_an_error_before_anything_is_taken():
    with pytest.raises(WeightsError, match="takes 40,564,819,207,303,340,847,894,502,572,032"):
        decode("F32", np.zeros(64, np.uint8), (2**50, 2**51, 4))


@pytest.mark.parametrize("shape", [(0, 256), (4, 0), (2**62, 0), (-4, -256)])
def test_a_shape_without_values_is_an_error(shape):
    with pytest.raises(WeightsError, match="holds nothing"):
        decode("Q8_0", np.zeros(0, np.uint8), shape)


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_whose_values_differ_by_many_orders_of_magnitude_come_back_near_in_their_largest(kind):
    rng = np.random.default_rng(5)
    values = weights(200, 512, seed=6) * (10 ** rng.uniform(-6, 4, (200, 512))).astype(np.float32)
    back = decode(kind, encode(kind, values), values.shape)
    grouped = (-1, FORMATS[kind].values)
    miss = np.abs(back - values).reshape(grouped).max(axis=1)
    assert (miss <= BIGGEST_MISS[kind] * np.abs(values).reshape(grouped).max(axis=1)).all()


def test_an_unknown_kind_names_the_nearest_one():
    with pytest.raises(WeightsError, match=r"unknown kind of weights 'q4_k'; did you mean 'Q4_K'\?"):
        decode("q4_k", np.zeros(144, np.uint8), (1, 256))


def test_decode_fills_the_array_it_is_given():
    values, out = weights(4, 256), np.empty((4, 256), np.float32)
    assert decode("Q8_0", encode("Q8_0", values), (4, 256), out=out) is out
    np.testing.assert_allclose(out, values, atol=0.001)


@pytest.mark.parametrize("kind", ["F16", "Q4_1", "Q6_K"])
def test_a_big_tensor_takes_no_more_memory_than_itself_and_a_little(kind):
    values = np.zeros((4096, 2048), np.float32)
    data, peak = with_peak(lambda: encode(kind, values, threads=2))
    assert peak - data.nbytes < 16 * 2**20
    back, peak = with_peak(lambda: decode(kind, data, values.shape))
    assert peak - back.nbytes < 2 * 2**20


def with_peak(work):
    """What work returns, and the most bytes that it held."""
    tracemalloc.start()
    done = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return done, peak
