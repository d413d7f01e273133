"""Pieces of matrices, of sequences and of the vocabulary, shards of every kind and recomputing change nothing."""

from functools import lru_cache, partial

import pytest
from parallel.parity import apart, trained
from parallel.pool import ranks

pytestmark = pytest.mark.ranks
CLOSE = 1e-10


@lru_cache
def alone(dtype="fp64", **config):
    return trained({}, dtype, 8, **config)


def furthest(layout, micro=1, **config):
    """The largest difference from one process, on any rank."""
    count = 1
    for name in ("pipeline", "replicate", "shard", "context", "tensor"):
        count *= layout.get(name, 1)
    told = ranks(count)(partial(trained, **config), layout, "fp64", micro)
    return max(max(apart(found, alone(**config)).values()) for found in told)


@pytest.mark.parametrize(
    "layout",
    [
        {"tensor": 2},
        {"tensor": 2, "loss_parallel": False},
        {"shard": 2, "recompute": "full"},
        {"tensor": 2, "recompute": "selective"},
    ],
    ids=str,
)
def test_two_ranks_train_as_one(layout):
    assert furthest(layout) < CLOSE


@pytest.mark.parametrize(
    "layout", [{"shard": 2}, {"tensor": 2}, {"tensor": 2, "loss_parallel": False}], ids=str
)
def test_a_tied_head_stays_one_tensor(layout):
    assert furthest(layout, 4, tie_word_embeddings=True) < CLOSE


@pytest.mark.parametrize(
    "layout",
    [
        {"shard": 4, "reshard": 2},
        {"replicate": 2, "shard": 2},
        {"shard": 2, "tensor": 2, "recompute": "selective"},
        {"shard": 2, "tensor": 2, "loss_parallel": False},
    ],
    ids=str,
)
def test_four_ranks_train_as_one(layout):
    assert furthest(layout, 2) < CLOSE
