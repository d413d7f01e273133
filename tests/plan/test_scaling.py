"""Scaling laws that are known are found again, and Llama 3's own law gives its own size."""

import math

import numpy as np
import pytest

from puna.errors import DataError
from puna.plan.scaling import LLAMA3_TOKENS, Point, fit, forecast


def sweep(noise: float = 0.0, exponent: float = 0.5, budgets=(1e15, 3e15, 1e16, 3e16), sizes: int = 5):
    """Runs whose best parameters are 0.1 * flops^exponent, and a little worse away from it."""
    dice = np.random.default_rng(1)
    for flops in budgets:
        best = 0.1 * flops**exponent
        for factor in np.geomspace(0.3, 3, sizes):
            parameters = best * factor
            loss = 3 - 0.05 * math.log(flops) + 0.08 * math.log(factor) ** 2 + noise * dice.normal()
            yield Point(parameters, flops / (6 * parameters), flops, loss)


@pytest.mark.parametrize("exponent", [0.46, 0.5, 0.55])
def test_a_law_without_noise_is_found_exactly(exponent):
    found = fit(list(sweep(exponent=exponent)))
    assert found.parameters.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.tokens.exponent == pytest.approx(1 - exponent, abs=1e-9)
    assert found.parameters.at(1e20) == pytest.approx(0.1 * 1e20**exponent, rel=1e-6)
    assert 6 * found.parameters.at(1e20) * found.tokens.at(1e20) == pytest.approx(1e20, rel=1e-6)
    assert all(valley.inside for valley in found.by_parameters)


def test_the_interval_holds_the_truth_and_widens_with_noise():
    small, large = (fit(list(sweep(noise))).parameters for noise in (0.002, 0.01))
    for law in (small, large):
        assert law.low < 0.5 < law.high and law.low < law.exponent < law.high
    assert large.high - large.low > 2 * (small.high - small.low)


def test_ninety_five_in_a_hundred_intervals_hold_the_truth():
    """Coverage, by sweeps of other noise: the bootstrap is no decoration."""
    held, dice = 0, np.random.default_rng(0)
    for _ in range(40):
        runs = [Point(p.parameters, p.tokens, p.flops, p.loss + 0.004 * dice.normal()) for p in sweep()]
        law = fit(runs, seed=int(dice.integers(1 << 30))).parameters
        held += law.low < 0.5 < law.high
    assert held >= 34


def test_a_sweep_that_cannot_say_anything_says_so():
    with pytest.raises(DataError, match="two budgets"):
        fit(list(sweep(budgets=(1e15,))))
    with pytest.raises(DataError, match="three sizes"):
        fit(list(sweep(sizes=2)))
    hill = [Point(p.parameters, p.tokens, p.flops, -p.loss) for p in sweep()]
    with pytest.raises(DataError, match="no lowest point"):
        fit(hill)


def test_llama_3s_law_gives_the_tokens_and_the_size_that_it_led_to():
    tokens = LLAMA3_TOKENS.at(3.8e25)
    assert tokens == pytest.approx(16.55e12, rel=0.02)  # the paper
    assert 3.8e25 / (6 * tokens) == pytest.approx(402e9, rel=0.04)  # its count of FLOPs a token is 5.7 N


def test_a_forecast_finds_the_line_and_the_sigmoid_that_made_its_points():
    runs = [(flops, 1.4 - 0.02 * math.log(flops)) for flops in (6e18, 1e20, 1e22)]
    curve = [(nats, 0.25 + 0.75 / (1 + math.exp((nats - 0.5) / 0.08))) for nats in (0.3, 0.4, 0.55, 0.7)]
    found = forecast(runs, curve, chance=0.25)
    assert found.nats(3.8e25) == pytest.approx(1.4 - 0.02 * math.log(3.8e25))
    assert (found.middle, found.width) == pytest.approx((0.5, 0.08), rel=1e-4)
    assert found.accuracy(0.3) == pytest.approx(curve[0][1], abs=1e-6)
