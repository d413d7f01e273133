"""On several ranks the loop judges, averages, moves and looks as on one."""

import math
from functools import lru_cache

import pytest
import torch
from parallel.looped import walked
from parallel.pool import ranks

pytestmark = pytest.mark.ranks


MORE = [{"shard": 2, "tensor": 2}, {"pipeline": 2, "shard": 2}, {"context": 2, "replicate": 2}]


@pytest.mark.parametrize(
    "layout", [{"shard": 2}, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE)], ids=str
)
def test_muon_moves_sharded_matrices_as_whole_ones_and_their_mean_is_the_mean(layout):
    for found in ranks(math.prod(layout.values()))(walked, layout, "muon"):
        for kind in ("weights", "means"):
            one = _alone("muon")[kind]
            assert one.keys() == found[kind].keys()
            for name, tensor in one.items():
                torch.testing.assert_close(found[kind][name], tensor, atol=1e-10, rtol=0, msg=name)


@pytest.mark.parametrize(
    "layout", [{"shard": 2}, *(pytest.param(more, marks=pytest.mark.slow) for more in MORE)], ids=str
)
def test_every_rank_says_of_a_step_what_one_says(layout):
    for found in ranks(math.prod(layout.values()))(walked, layout):
        for ours, one in zip(found["statistics"], _alone("adamw")["statistics"], strict=True):
            assert ours["update"] == pytest.approx(one["update"], rel=1e-6)
            for label, numbers in one["layers"].items():
                assert ours["layers"][label] == pytest.approx(numbers, rel=1e-4), label
            assert 0.3 < ours["most_logit"] / one["most_logit"] < 3, "of some rows only"
            assert ours["ranks"]["seconds"]["least"] <= ours["ranks"]["seconds"]["most"]
            assert ours["ranks"]["data_s"]["slowest"] in range(math.prod(layout.values()))


def test_what_one_rank_cannot_learn_from_no_rank_does():
    first, second = ranks(2)(walked, {"shard": 2}, "adamw", 1, 99)
    assert first["skipped"] == second["skipped"] and [bool(why) for why in first["skipped"]] == [0, 1, 0, 0]
    assert all(torch.equal(first["weights"][name], weight) for name, weight in second["weights"].items())
    assert all(weight.isfinite().all() for weight in first["weights"].values())


def test_a_machine_that_erred_once_is_told_from_the_data_by_all_ranks():
    for found in ranks(2)(walked, {"shard": 2}, "adamw", 1, 1):
        assert found["skipped"] == [""] * 4 and "nan" in found["repeated"][1]
        for name, weight in _alone("adamw")["weights"].items():
            torch.testing.assert_close(found["weights"][name], weight, atol=1e-10, rtol=0)


@lru_cache
def _alone(kind):
    return walked({}, kind)
