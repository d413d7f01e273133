"""The pieces of a step: what may be seen, how weights begin, how fast they move."""

import pytest
import torch

from puna.errors import ConfigError
from puna.model.attend import documents, segments
from puna.model.config import ModelConfig
from puna.model.init import initialize, rows
from puna.model.transformer import Llama
from puna.train.optimizer import Optimizer, OptimizerSettings
from puna.train.schedule import Schedule

TINY = ModelConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                   intermediate_size=48, vocab_size=200, tie_word_embeddings=True)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_segments_are_documents_without_a_mask(dtype):
    draw = torch.Generator().manual_seed(1)
    owner = torch.tensor([[1, 1, 1, 2, 2, 3, 3, 3, 3], [3, 5, 5, 5, 5, 5, 5, 5, 5]])
    given = [
        torch.randn(2, 9, heads, 8, generator=draw, dtype=torch.float64).to(dtype) for heads in (4, 2, 2)
    ]
    results = []
    for attend in (documents(owner), segments(owner)):
        q, k, v = (x.clone().requires_grad_() for x in given)
        mixed = attend(0, q, k, v)
        mixed.square().sum().backward()
        results.append((mixed, q.grad, k.grad, v.grad))
    close = {torch.bfloat16: 1e-1}.get(dtype, 1e-5)
    for ours, definition in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, definition, atol=close, rtol=close)


def test_a_rank_that_makes_some_rows_makes_those_of_the_whole():
    name, shape = "model.layers.0.self_attn.q_proj.weight", torch.Size((300, 40))
    whole = rows(name, shape, TINY, 7, 0, 300)
    for first, last in ((0, 300), (0, 1), (63, 65), (128, 256), (250, 300)):
        assert torch.equal(rows(name, shape, TINY, 7, first, last), whole[first:last])
    assert not torch.equal(rows(name, shape, TINY, 8, 0, 300), whole)
    assert whole.std() == pytest.approx(0.02, rel=0.05)
    assert rows("model.layers.0.mlp.down_proj.weight", shape, TINY, 7, 0, 300).std() == pytest.approx(
        0.01, rel=0.05
    )


def test_two_models_of_a_seed_are_one():
    made = []
    for _ in range(2):
        model = Llama(TINY)
        initialize(model, TINY, 3)
        made.append(model.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_llama_3s_schedule():
    schedule = Schedule(peak=8e-5, warmup=8000, last=0.01)
    assert schedule.rate(0, 1_208_000) == pytest.approx(1e-8) and schedule.rate(7999, 1_208_000) == 8e-5
    assert schedule.rate(608_000, 1_208_000) == pytest.approx(8e-5 * (0.01 + 0.99 / 2))
    assert schedule.rate(1_207_999, 1_208_000) == pytest.approx(8e-7, rel=1e-3)
    falls = Schedule(peak=1.0, shape="wsd", warmup=10, decay=20, last=0.0)
    assert [falls.rate(step, 100) for step in (10, 79)] == [1, 1] and falls.rate(90, 100) == pytest.approx(
        0.5
    )
    ends = Schedule(peak=1.0, shape="linear", last=0.5, anneal=4)
    assert [round(ends.rate(step, 14), 3) for step in (0, 5, 9, 10, 13)] == [1.0, 0.75, 0.55, 0.4, 0.1]
    with pytest.raises(ConfigError, match="never falls"):
        Schedule.read({"peak": 1, "shape": "wsd"}, "schedule")


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_masters_keep_what_sixteen_bits_would_lose(kind):
    torch.manual_seed(0)
    models = [Llama(TINY) for _ in range(2)]
    for model in models:
        initialize(model, TINY, 0)
    exact = Optimizer([models[0]], OptimizerSettings(kind=kind))
    short = Optimizer([models[1]], OptimizerSettings(kind=kind), torch.bfloat16)
    for step in range(20):
        draw = torch.Generator().manual_seed(step)
        for name, weight in exact.weights.items():
            gradient = torch.randn(weight.shape, generator=draw).bfloat16()
            weight.grad, short.weights[name].grad = gradient.float(), gradient.clone()
        assert exact.gather() == pytest.approx(float(short.gather()), rel=1e-6)
        exact.update(1e-5)
        short.update(1e-5)
    for name, master in exact.masters.items():
        torch.testing.assert_close(master, short.masters[name])
        assert short.weights[name].dtype == torch.bfloat16
        torch.testing.assert_close(short.weights[name].float(), master, atol=1e-2, rtol=1e-2)


def test_a_gradient_longer_than_the_limit_is_cut_to_it():
    model = Llama(TINY)
    initialize(model, TINY, 0)
    optimizer = Optimizer([model], OptimizerSettings(clip=0.5))
    for weight in optimizer.weights.values():
        weight.grad = torch.ones_like(weight)
    length = float(optimizer.gather())
    torch.nn.utils.clip_grads_with_norm_(list(optimizer.masters.values()), 0.5, optimizer.length)
    assert length > 10 and float(optimizer.gather()) == pytest.approx(0.5, rel=1e-4)
