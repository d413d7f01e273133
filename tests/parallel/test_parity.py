"""N ranks train as one does: the same losses, gradients and weights, to the last digits of fp64."""

from functools import lru_cache

import pytest
from parallel.parity import apart, trained
from parallel.pool import ranks

pytestmark = pytest.mark.ranks
CLOSE = 1e-10


@lru_cache
def alone(dtype="fp64", **config):
    return trained({}, dtype, **config)


@pytest.mark.parametrize(
    "layout",
    [
        {"shard": 2},
        {"shard": 2, "reshard": "never"},
        {"replicate": 2},
    ],
    ids=str,
)
def test_two_ranks_train_as_one(layout):
    for found in ranks(2)(trained, layout):
        assert max(apart(found, alone()).values()) < CLOSE
