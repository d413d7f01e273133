"""A Llama out of a GGUF and into one: the same numbers, the same shape, the same text from llama.cpp."""

import tracemalloc

import numpy as np
import pytest
import torch

from puna import log
from puna.errors import ConfigError, WeightsError
from puna.gguf import open_gguf
from puna.gguf_writer import GgufWriter
from puna.model.config import HERD, RopeScaling
from puna.model.gguf_keys import DIVISORS, keys_from_config
from puna.model.names import shapes, to_gguf
from puna.quant.gguf import GgufWeights, divisors, write_gguf
from tests.models import NANO, TRAITS, InMemory, random_model
from tests.quant.gguf_files import smollm2

TOKENS = {"tokenizer.ggml.model": "no_vocab"}


def scaled(**scaling):
    return NANO.model_copy(update={"rope_scaling": RopeScaling(**scaling)})


def write(config, path, kind="F32", tokens=TOKENS):
    weights = InMemory(random_model(config))
    write_gguf(weights, path, lambda name, shape: kind, tokens, "nano")
    return weights


def rewritten(path, keys=None, drop=(), extra=(), into="changed.gguf"):
    """A copy of a GGUF with other keys (None: left out), without some tensors and with some of F32 zeros."""
    file = open_gguf(path)
    keys = {name: value for name, value in {**file.keys, **(keys or {})}.items() if value is not None}
    kept = [entry for entry in file.tensors.values() if entry.name not in drop]
    with GgufWriter(
        path.with_name(into),
        keys,
        [(e.name, e.shape, e.kind) for e in kept] + [(name, shape, "F32") for name, shape in extra],
    ) as out:
        for entry in kept:
            out.write(entry.name, file.data(entry.name))
        for name, shape in extra:
            out.write(name, np.zeros(shape, np.float32))
    return path.with_name(into)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("traits", TRAITS)
def test_a_model_written_is_the_model_read(tmp_path, traits, kind):
    weights = write(TRAITS[traits], tmp_path / "m.gguf", kind)
    found = GgufWeights(tmp_path / "m.gguf")
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
    assert found.config == weights.config
    assert list(found.names()) == [name for name, _ in shapes(weights.config)]
    for name in found.names():
        want = weights.read(name) if weights.read(name).ndim == 1 else weights.read(name).to(dtype)
        assert found.kind(name) == ("F32" if want.ndim == 1 else kind)
        assert torch.equal(found.read(name), want)


def test_rows_of_q_and_k_stand_interleaved_in_the_file(tmp_path):
    weights = write(NANO, tmp_path / "m.gguf")
    stored = open_gguf(tmp_path / "m.gguf").data("blk.1.attn_k.weight").view(np.float32).reshape(2, 8, 64)
    ours = weights.read("model.layers.1.self_attn.k_proj.weight").view(2, 8, 64).numpy()
    for head in range(2):
        for pair in range(4):
            assert np.array_equal(stored[head, 2 * pair], ours[head, pair])
            assert np.array_equal(stored[head, 2 * pair + 1], ours[head, pair + 4])


def test_a_quantised_tensor_is_read_as_its_blocks_say(tmp_path):
    gguf = pytest.importorskip("gguf")
    weights, theirs = GgufWeights(smollm2()), gguf.GGUFReader(smollm2())
    stored = {tensor.name: tensor for tensor in theirs.tensors}
    for name in ("model.embed_tokens.weight", "model.layers.3.self_attn.q_proj.weight"):
        tensor = stored[to_gguf(name)]
        want = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if "q_proj" in name:  # head, pair, which of the two -> head, which, pair
            want = want.reshape(9, 32, 2, 576).permute(0, 2, 1, 3).reshape(576, 576)
        assert torch.equal(weights.read(name), want)


def test_the_real_file_has_the_published_shape():
    assert GgufWeights(smollm2()).config == HERD["smollm2-135m"]


def test_what_is_stored_in_the_wanted_type_is_copied_bit_for_bit(tmp_path):
    source = GgufWeights(smollm2())
    write_gguf(source, tmp_path / "m.gguf", lambda n, _: source.kind(n), TOKENS, "copy")
    copy = GgufWeights(tmp_path / "m.gguf")
    assert copy.config == source.config and copy.file.keys["general.file_type"] == 3
    assert all(np.array_equal(copy.raw(name), source.raw(name)) for name in source.names())


def test_a_matrix_is_the_same_when_encoded_in_pieces(tmp_path):
    tall = NANO.model_copy(update={"vocab_size": 70_000, "num_hidden_layers": 1})  # 4.5 million numbers
    weights = write(tall, tmp_path / "m.gguf", "F16")
    name = "model.embed_tokens.weight"
    assert torch.equal(GgufWeights(tmp_path / "m.gguf").read(name), weights.read(name).half())


def test_writing_takes_memory_for_a_tensor_and_not_for_the_model(tmp_path):
    write(NANO.model_copy(update={"num_hidden_layers": 40}), tmp_path / "m.gguf")
    tracemalloc.start()
    write_gguf(GgufWeights(tmp_path / "m.gguf"), tmp_path / "half.gguf", lambda n, _: "F16", TOKENS, "half")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "m.gguf").stat().st_size > 7_000_000 and peak < 1_500_000


def test_writing_tells_how_far_it_is(tmp_path):
    told = []
    with log.listening(told.append):
        write(NANO, tmp_path / "m.gguf")
    count = len(list(shapes(NANO)))
    assert [(e["event"], e["done"], e["of"]) for e in told] == [("write", n + 1, count) for n in range(count)]


VECTORS = {  # (factor, head width, first pair that is not whole): divisors [llama3.md 1.2]
    (8, 128, 29): (1.207484, 1.553415, 2.026313, 2.694530, 3.684253, 5.257327, 8.0),
    (32, 128, 29): (1.234937, 1.651329, 2.276660, 3.292262, 5.171596, 9.666729, 32.0),
    (32, 64, 15): (1.651329, 3.292262, 9.666729, 32.0),
}


@pytest.mark.parametrize("case", VECTORS)
def test_rope_divisors_are_the_reference_vectors(case):
    factor, width, first = case
    found = divisors(NANO.model_copy(update={"head_dim": width, "rope_scaling": RopeScaling(factor=factor)}))
    want = (*[1.0] * first, *VECTORS[case])
    want += (float(factor),) * (width // 2 - len(want))
    np.testing.assert_allclose(found, np.array(want, np.float32), rtol=2e-6)


@pytest.mark.parametrize(
    "scaling",
    [
        {"factor": 8.0},
        {"factor": 32.0},
        {"factor": 3.7},
        {"factor": 8.0, "original_max_position_embeddings": 64},
        {"rope_type": "linear", "factor": 2.5},
    ],
)
def test_a_scaling_written_is_the_scaling_read(tmp_path, scaling):
    write(scaled(**scaling), tmp_path / "m.gguf")
    file = open_gguf(tmp_path / "m.gguf")
    assert (DIVISORS in file.tensors) == ("rope_type" not in scaling)
    assert GgufWeights(tmp_path / "m.gguf").config.rope_scaling == RopeScaling(**scaling)


def test_the_factor_is_told_back_when_even_the_slowest_pair_is_only_blended(tmp_path):
    short = scaled(factor=8.0).model_copy(update={"rope_theta": 1500.0, "head_dim": 64})  # wavelength 7,500
    write(short, tmp_path / "m.gguf")
    assert 1 < divisors(short)[-1] < 8
    assert GgufWeights(tmp_path / "m.gguf").config.rope_scaling == RopeScaling(factor=8.0)


def test_divisors_of_one_are_no_scaling(tmp_path):
    fast = scaled(factor=8.0).model_copy(update={"rope_theta": 100.0})
    write(fast, tmp_path / "m.gguf")
    assert GgufWeights(tmp_path / "m.gguf").config.rope_scaling is None


def test_a_scaling_that_gguf_cannot_say_is_not_written(tmp_path):
    with pytest.raises(WeightsError, match=r"RoPE scaling from 2\.0 to 4\.0 turns"):
        write(scaled(factor=8.0, low_freq_factor=2.0), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def other_divisors(path, values):
    file = open_gguf(path)
    with GgufWriter(
        path.with_name("other.gguf"), file.keys, [(e.name, e.shape, e.kind) for e in file.tensors.values()]
    ) as out:
        for name in file.tensors:
            out.write(name, np.float32(values) if name == DIVISORS else file.data(name))
    return path.with_name("other.gguf")


@pytest.mark.parametrize("values", [(1, 1, 1, 0), (1, 1, 1, np.nan), (1, 1, 1, -8), (1, 1, 1, np.inf)])
def test_divisors_that_cannot_be_are_told(tmp_path, values):
    write(scaled(factor=8.0), tmp_path / "m.gguf")
    with pytest.raises(WeightsError, match=r"rope_freqs\.weight ends with .* not Llama 3\.1's scaling"):
        GgufWeights(other_divisors(tmp_path / "m.gguf", values))


def test_divisors_of_another_scaling_are_told(tmp_path):
    write(scaled(factor=8.0), tmp_path / "m.gguf")
    with pytest.raises(WeightsError, match=r"not Llama 3\.1's scaling by 8\.0"):
        GgufWeights(other_divisors(tmp_path / "m.gguf", (1, 2, 4, 8)))


def test_keys_left_out_have_llama_cpps_defaults(tmp_path):
    write(NANO.model_copy(update={"num_key_value_heads": 8, "rope_theta": 10_000.0}), tmp_path / "m.gguf")
    left = ("attention.head_count_kv", "rope.freq_base", "vocab_size", "attention.key_length")
    left += ("attention.value_length", "rope.dimension_count")
    path = rewritten(tmp_path / "m.gguf", {f"llama.{key}": None for key in left})
    assert GgufWeights(path).config == GgufWeights(tmp_path / "m.gguf").config


def test_keys_say_the_published_shapes_and_are_understood():
    for config in HERD.values():
        keys = keys_from_config(config)
        assert keys["llama.block_count"] == config.num_hidden_layers
        assert keys["llama.attention.key_length"] == config.head_dim


REFUSED = {  # what is said: (keys changed, tensors dropped, tensors added)
    "the architecture 'qwen2' is not supported": ({"general.architecture": "qwen2"}, (), ()),
    "the architecture 'None' is not supported": ({"general.architecture": None}, (), ()),
    "the architecture '[1 2]' is not supported": ({"general.architecture": np.int32([1, 2])}, (), ()),
    "llama.expert_count is 8, not 0": ({"llama.expert_count": 8}, (), ()),
    "llama.expert_count is [8 8], not 0": ({"llama.expert_count": [8, 8]}, (), ()),
    "llama.rope.scaling.attn_factor is 0.5, not 1.0": ({"llama.rope.scaling.attn_factor": 0.5}, (), ()),
    "the key llama.block_count is missing": ({"llama.block_count": None}, (), ()),
    "llama.block_count is 2.5": ({"llama.block_count": "2.5"}, (), ()),
    "llama.attention.head_count_kv is [2 2]": ({"llama.attention.head_count_kv": [2, 2]}, (), ()),
    "llama.context_length is 1099511627776": ({"llama.context_length": 2**40}, (), ()),
    "llama.rope.dimension_count is 4, its heads are 8": ({"llama.rope.dimension_count": 4}, (), ()),
    "llama.attention.value_length is 16": ({"llama.attention.value_length": 16}, (), ()),
    "RoPE scaling 'yarn' is not supported": ({"llama.rope.scaling.type": "yarn"}, (), ()),
    "one of 3 parts": ({"split.count": 3}, (), ()),
    "one of [1 1] parts": ({"split.count": [1, 1]}, (), ()),
    "token_embd.weight is missing": ({}, ("token_embd.weight",), ()),
    "tensor model.layers.1.mlp.down_proj.weight is missing": ({}, ("blk.1.ffn_down.weight",), ()),
    "embed_tokens.weight is (512, 64), the config makes it (511, 64)": ({"llama.vocab_size": 511}, (), ()),
    "layers.2.input_layernorm.weight is missing": ({"llama.block_count": 3}, (), ()),
    "has no place for blk.1.attn_k": ({"llama.block_count": 1}, (), ()),
    "and 6 more": ({"llama.block_count": 1}, (), ()),
    "has no place for blk.0.attn_q.bias": ({}, (), (("blk.0.attn_q.bias", (64,)),)),
    "rope_freqs.weight is F32 (8,), not F32 (4,)": ({}, (), ((DIVISORS, (8,)),)),
    "both rope_freqs.weight and linear": ({"llama.rope.scaling.factor": 2.0}, (), ((DIVISORS, (4,)),)),
}


@pytest.mark.parametrize("said", REFUSED)
def test_another_model_than_ours_is_told_with_its_reason(tmp_path, said):
    keys, drop, extra = REFUSED[said]
    write(NANO, tmp_path / "m.gguf")
    with pytest.raises(WeightsError) as told:
        GgufWeights(rewritten(tmp_path / "m.gguf", keys, drop, extra))
    assert said in str(told.value) and "changed.gguf" in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count", 0),
        ("attention.head_count", 3),
        ("block_count", 10**6),
        ("rope.freq_base", 0.0),
    ],
)
def test_impossible_numbers_are_told(tmp_path, key, value):
    write(NANO, tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match=r"changed\.gguf"):
        GgufWeights(rewritten(tmp_path / "m.gguf", {f"llama.{key}": value}))


def test_a_tensor_of_whole_numbers_is_no_weight(tmp_path):
    write(NANO, tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    name = b"blk.0.ffn_up.weight"
    at = whole.index(name) + len(name) + 4 + 16
    (tmp_path / "m.gguf").write_bytes(whole[:at] + (26).to_bytes(4, "little") + whole[at + 4 :])
    with pytest.raises(WeightsError, match=r"up_proj\.weight is I32, which is no type of weights"):
        GgufWeights(tmp_path / "m.gguf")
