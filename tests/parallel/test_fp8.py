"""Products of 8 bits are as near to the exact ones as three bits of a fraction allow; names do not change."""

import pytest
import torch
from parallel.parity import CONFIG, columns
from parallel.pool import ranks

from puna.errors import ConfigError, HardwareError
from puna.model.init import initialize
from puna.parallel.apply import build
from puna.parallel.fp8 import eight_bits, product, rounded
from puna.parallel.layout import Layout
from puna.parallel.world import ALONE, World
from puna.train.batches import Part, next_token_loss
from puna.train.health import Health, HealthSettings
from puna.train.optimizer import Optimizer, OptimizerSettings
from puna.train.step import Position, in_turn, steps

# A number keeps 3 bits of its fraction: it is off by 2.6% on average (uniform over a step of 1/8 between 1 and
# 2), a product of two by 3.7%, and so is a sum of many that are off independently.
OFF = 0.04


def off(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def learned(layout, dtype, ends=True, until=4):
    """Losses and gradients' lengths of a few steps, with linears of 8 bits or without."""
    world = World(Layout(**layout))
    model = build(CONFIG, world, torch.bfloat16)[0].requires_grad_(True)
    initialize(model, CONFIG, 0)
    before = [name for name, _ in model.named_parameters()]
    if dtype == "fp8":
        eight_bits(model, ends, world)
    assert [name for name, _ in model.named_parameters()] == before
    place, count = world.place("readers"), 8 // world.layout.readers

    def batch(number):
        return [Part(*(column[place * count : (place + 1) * count] for column in columns(number % 2)))]

    optimizer = Optimizer([model], OptimizerSettings(), None if world.mesh else torch.bfloat16, world)
    accumulate, health = in_turn(model, next_token_loss), Health(HealthSettings())
    told = steps(accumulate, optimizer, batch, lambda _: 1e-2, health, Position(), until, world)
    return [(step.loss, step.gradient) for step in told]


def test_a_product_of_8_bits_is_as_near_as_its_bits_allow():
    a, b = draw(48, 256), draw(80, 256, seed=1)
    exact = a.double() @ b.double().T
    assert 0.02 < off(product(a, b), exact) < OFF
    a[7:] *= 1e4  # costs the rows before it nothing: every row has a scale
    exact = a.double() @ b.double().T
    assert off(product(a, b)[:7], exact[:7]) < 1.1 * OFF and off(product(a, b)[7:], exact[7:]) < OFF
    assert not product(torch.zeros_like(a), b).any()


def test_rows_of_8_bits_reach_their_largest_number_exactly():
    x = draw(33, 64) * 10.0 ** torch.arange(-16, 17).bfloat16()[:, None]
    small, scale = rounded(x)
    assert torch.isfinite(small.float()).all() and (small.float().abs().amax(1) == 448).all()
    largest = (small.float() * scale).abs().amax(1)
    torch.testing.assert_close(largest, x.float().abs().amax(1), rtol=1e-6, atol=0)


def test_gradients_through_8_bits_are_near_those_of_32():
    model = build(CONFIG, ALONE, torch.bfloat16)[0].requires_grad_(True).bfloat16()
    initialize(model, CONFIG, 0)
    linear = model.model.layers["1"].mlp.up_proj
    x, gradient = draw(2, 32, 64), draw(2, 32, 128, seed=1)
    eight_bits(model)
    x.requires_grad_()
    y = linear(x)
    y.backward(gradient)
    weight, flat, g = (
        linear.weight.detach().double(),
        x.detach().double().flatten(0, 1),
        gradient.double().flatten(0, 1),
    )
    assert off(y.detach().flatten(0, 1), flat @ weight.T) < OFF
    assert 0.02 < off(x.grad.flatten(0, 1), g @ weight) < OFF
    assert off(linear.weight.grad, g.T @ flat) < 4e-3, "weights' gradients are made in 16 bits"


def test_only_the_inner_layers_linears_change_unless_the_ends_are_asked_for():
    for ends, changed in ((False, 2 * 7), (True, 4 * 7)):
        model = build(CONFIG, ALONE, torch.bfloat16)[0]
        eight_bits(model, ends)
        kinds = [type(module).__name__ for module in model.modules()]
        assert kinds.count("_EightBits") == changed and type(model.lm_head) is torch.nn.Linear


def test_training_in_8_bits_follows_training_in_16():
    short, exact = learned({}, "fp8"), learned({}, "bf16")
    assert exact[-1][0] < exact[0][0] - 0.1
    for (loss, gradient), (true, length) in zip(short, exact, strict=True):
        assert loss == pytest.approx(true, abs=0.03) and gradient == pytest.approx(length, rel=0.1)


@pytest.mark.ranks
def test_ranks_that_shard_train_in_8_bits_as_one_does():
    alone = learned({}, "fp8", until=2)
    for found in ranks(2)(learned, {"shard": 2}, "fp8", True, 2):
        for (loss, gradient), (true, length) in zip(found, alone, strict=True):
            assert loss == pytest.approx(true, abs=2e-3) and gradient == pytest.approx(length, rel=2e-2)


def test_what_8_bits_cannot_do_is_refused(monkeypatch):
    odd = build(CONFIG.model_copy(update={"intermediate_size": 72}), ALONE, torch.bfloat16)[0]
    with pytest.raises(ConfigError, match="72, but 16 must divide both"):
        eight_bits(odd)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an older one")
    world = World(Layout(), "cuda", alone=True)
    with pytest.raises(HardwareError, match="an older one has no products of 8 bits"):
        eight_bits(odd, world=world)


@pytest.mark.gpu
def test_products_of_8_bits_on_a_gpu_are_those_of_the_cpu_and_faster_than_16():
    a, b = draw(64, 256), draw(96, 256, seed=1)
    exact = a.double() @ b.double().T
    assert 0.02 < off(product(a.cuda(), b.cuda()).cpu(), exact) < OFF
    torch.testing.assert_close(product(a.cuda(), b.cuda()).cpu(), product(a, b), rtol=2e-2, atol=0.3)
    x, w = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in "xw")
    given = {"fp8": (torch.compile(product), x, w), "bf16": (torch.nn.functional.linear, x, w)}
    milliseconds = {}
    for name, (function, *both) in given.items():
        for _ in range(5):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            function(*both)
            end.record()
            torch.cuda.synchronize()
            milliseconds[name] = begin.elapsed_time(end)
    assert milliseconds["fp8"] < milliseconds["bf16"] / 1.2, milliseconds
