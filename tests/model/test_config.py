"""The herd has Meta's parameter counts, and a config.json says exactly one model or is refused."""

import time

import pytest
import torch

from puna.errors import ConfigError
from puna.model.config import HERD, ModelConfig, RopeScaling, from_hf, parameters, read_json, to_hf
from puna.model.rope import frequencies
from puna.model.transformer import Llama
from tests.models import NANO, TRAITS

PUBLISHED = {  # [llama3.md 1.1]
    "3.2-1b": 1_235_814_400,
    "3.2-3b": 3_212_749_824,
    "3-8b": 8_030_261_248,
    "3.1-8b": 8_030_261_248,
    "3.3-70b": 70_553_706_496,
    "3.1-405b": 405_853_388_800,
    "smollm2-135m": 134_515_008,
    "llama2-7b": 6_738_415_616,
    "tinyllama-1.1b": 1_100_048_384,
}


@pytest.mark.parametrize("name", HERD)
def test_a_model_on_the_meta_device_has_the_published_number_of_parameters(name):
    started = time.perf_counter()
    with torch.device("meta"):
        model = Llama(HERD[name])
    assert time.perf_counter() - started < 5
    count = sum(p.numel() for p in model.parameters())
    assert count == parameters(HERD[name]) == PUBLISHED.get(name, count)


@pytest.mark.parametrize(
    ("factor", "head_dim", "first", "divisors"),
    [  # [llama3.md 1.2]
        (8, 128, 28, [1, 1.207484, 1.553415, 2.026313, 2.694530, 3.684253, 5.257327, 8.0]),
        (32, 128, 28, [1, 1.234937, 1.651329, 2.276660, 3.292262, 5.171596, 9.666729, 32.0]),
        (32, 64, 14, [1, 1.651329, 3.292262, 9.666729, 32.0]),
    ],
)
def test_rope_is_squeezed_as_llama_3_squeezes_it(factor, head_dim, first, divisors):
    plain = NANO.model_copy(update={"head_dim": head_dim})
    squeezed = plain.model_copy(update={"rope_scaling": RopeScaling(factor=factor)})
    ratio = frequencies(plain) / frequencies(squeezed)
    torch.testing.assert_close(
        ratio[first : first + len(divisors)], torch.tensor(divisors), atol=2e-6, rtol=2e-6
    )
    assert (ratio[:first] == 1).all() and torch.allclose(
        ratio[first + len(divisors) :], torch.tensor(float(factor))
    )


@pytest.mark.parametrize("traits", TRAITS)
def test_a_config_survives_config_json(traits):
    assert from_hf(to_hf(TRAITS[traits], "bfloat16"), "here") == TRAITS[traits]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mistral"}, "another architecture"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"num_attention_heads": 7}, "share"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"vocab_size": 2**40}, "vocab_size"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 0}}, "factor"),
        ({"rope_scaling": "double"}, "rope_scaling"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"head_dim": 7}, "head_dim"),
    ],
)
def test_a_config_that_is_not_ours_is_refused_with_its_reason(change, said):
    with pytest.raises(ConfigError, match=said):
        from_hf({**to_hf(NANO, "float32"), **change}, "config.json")


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'hidden_size'"):
        ModelConfig.read({**NANO.model_dump(), "hiden_size": 3}, "recipe")


def test_json_that_is_none_is_refused(tmp_path):
    path = tmp_path / "config.json"
    for text in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}{'):
        path.write_bytes(text)
        with pytest.raises(ConfigError, match="not valid JSON"):
            read_json(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_json(tmp_path / "none.json")
