"""Counts are those of the published models, to the last parameter, and those of our own files, to the byte."""

import pytest

from puna.errors import PunaError
from puna.model.config import HERD, parameters
from puna.model.names import shapes
from puna.plan import counts
from puna.plan.counts import herd


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("3.2-1b", 1_235_814_400),
        ("3.2-3b", 3_212_749_824),
        ("8b", 8_030_261_248),
        ("70b", 70_553_706_496),
        ("405b", 405_853_388_800),
    ],
)
def test_parameters_are_the_published_ones(name, count):
    c = herd(name)
    assert parameters(c) == count
    body = c.num_hidden_layers * (counts.block(c) + 2 * c.hidden_size) + c.hidden_size
    assert body == count - c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)


@pytest.mark.parametrize(
    ("name", "causal", "full"),
    [("1b", 9.0, 10.6), ("8b", 51.5, 57.9), ("70b", 449, 481), ("405b", 2524, 2625)],
)
def test_operations_a_token_are_the_published_ones_by_both_counts(name, causal, full):
    """At 8,192 tokens, in GFLOP."""
    assert counts.training_flops(herd(name), 8192) / 1e9 == pytest.approx(causal, rel=5e-3)
    assert counts.training_flops(herd(name), 8192, "full") / 1e9 == pytest.approx(full, rel=5e-3)


def test_llama_3_405bs_run_is_its_published_budget():
    assert counts.flops_budget(herd("405b"), 15.6e12) == pytest.approx(3.8e25, rel=0.01)


def test_operations_are_those_of_the_products_that_a_model_really_does(nano_model):
    """torch counts the matrix products of our own forward and backward pass: exactly our number."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def attend(layer, q, k, v):  # the textbook's, whose products torch can count
        q, k, v = (x.transpose(1, 2) for x in (q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2)))
        return ((q @ k.mT).softmax(-1) @ v).transpose(1, 2)

    model, c, T = nano_model, nano_model.config, 64
    owner = torch.zeros(1, T, dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        logits = model(owner, torch.arange(T)[None], attend)
        logits.sum().backward()
    assert counted.get_total_flops() == counts.training_flops(c, T, "full") * T


@pytest.fixture
def nano_model():
    from puna.model.config import ModelConfig
    from puna.model.init import initialize
    from puna.model.transformer import Llama

    c = ModelConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        vocab_size=320,
    )  # fmt: skip
    model = Llama(c).requires_grad_(True)
    initialize(model, c, 0)
    return model


def test_bytes_are_those_of_every_tensor(nano_model):
    c = nano_model.config
    assert counts.weight_bytes(c, "fp32") == sum(p.nbytes for p in nano_model.parameters())
    assert counts.weight_bytes(herd("8b"), "bf16") == pytest.approx(14.96 * 2**30, rel=1e-3)
    matrices = sum(
        shape[0] * shape[1] for name, shape in shapes(herd("8b")) if ".layers." in name and len(shape) > 1
    )
    assert counts.weight_bytes(herd("8b"), "bf16") - counts.weight_bytes(herd("8b"), "fp8") == matrices


@pytest.mark.parametrize(
    ("name", "each"), [("1b", 32_768), ("8b", 131_072), ("70b", 327_680), ("405b", 516_096)]
)
def test_a_token_leaves_behind_the_published_bytes_of_keys_and_values(name, each):
    assert counts.kv_bytes(herd(name)) == each


def test_a_model_or_a_kind_of_weights_that_is_not_there_is_named():
    with pytest.raises(PunaError, match="no published model '9b'"):
        herd("9b")
    with pytest.raises(PunaError, match="q4_k_m"):
        counts.weight_bytes(HERD["3-8b"], "q3")
