"""Pieces of matrices, of sequences and of the vocabulary, shards of every kind, recomputing and compiling: none
of it changes what is learnt.
"""

from functools import lru_cache, partial

import pytest
import torch
from parallel.parity import apart, trained
from parallel.pool import ranks
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

pytestmark = pytest.mark.ranks
CLOSE = {"fp64": 1e-10, "fp32": 1e-5}
FEW = {"num_hidden_layers": 2}


@lru_cache
def alone(dtype="fp64", **config):
    return trained({}, dtype, 8, **config)


def furthest(layout, micro, dtype="fp64", function=trained, **config):
    """The largest difference from one process, on any rank."""
    count = 1
    for name in ("replicate", "shard", "tensor"):
        count *= layout.get(name, 1)
    told = ranks(count)(partial(function, **config), layout, dtype, micro)
    return max(max(apart(found, alone(dtype, **config)).values()) for found in told)


def compiled(*args, **config):
    """Traced as for the real compiler, but its graphs are run as they are."""
    _clear_sharding_prop_cache()  # it holds meshes of this process's earlier worlds, equal but not the same
    with torch.compiler.set_stance("default", force_backend="aot_eager"):
        return trained(*args, **config)


@pytest.mark.parametrize(
    "layout",
    [
        {"shard": 2, "recompute": "full"},
        {"tensor": 2},
        {"tensor": 2, "loss_parallel": False},
        {"tensor": 2, "recompute": "selective"},
    ],
    ids=str,
)
def test_two_ranks_train_as_one(layout):
    assert furthest(layout, 4 // layout.get("shard", 1), **FEW) < CLOSE["fp64"]


@pytest.mark.parametrize(
    "layout", [{"shard": 2}, {"tensor": 2}, {"tensor": 2, "loss_parallel": False}], ids=str
)
def test_a_tied_head_stays_one_tensor(layout):
    assert furthest(layout, 4, tie_word_embeddings=True, **FEW) < CLOSE["fp64"]


def test_a_tensor_on_its_way_into_a_compiled_block_keeps_its_gradient():
    assert furthest({"tensor": 2, "compile": True}, 4, function=compiled, **FEW) < CLOSE["fp64"]


def test_in_32_bits_two_ranks_train_as_one():
    assert furthest({"tensor": 2}, 2, "fp32", **FEW) < CLOSE["fp32"]


def test_in_16_bits_the_loss_is_near():
    for found in ranks(2)(partial(trained, **FEW), {"tensor": 2, "recompute": "selective"}, "bf16", 4):
        assert apart(found, alone("bf16", **FEW))["losses"] < 2e-2


@pytest.mark.parametrize(
    "layout",
    [
        {"replicate": 2, "shard": 2},
        {"shard": 4, "reshard": 2},
        {"shard": 2, "tensor": 2, "recompute": "full"},
    ],
    ids=str,
)
def test_four_ranks_train_as_one(layout):
    assert furthest(layout, 8 // layout.get("shard", 1), **FEW) < CLOSE["fp64"]


ALL = [
    {"shard": 2, "tensor": 2, "loss_parallel": False},
    {"replicate": 2, "tensor": 2, "recompute": "selective"},
    {"replicate": 2, "shard": 2, "reshard": "never"},
    {"shard": 4, "reshard": "never", "recompute": "selective"},
    {"replicate": 2, "shard": 2, "tensor": 2, "recompute": "selective"},
    {"shard": 4, "tensor": 2, "reshard": "never", "recompute": "full"},
    {"replicate": 2, "shard": 4, "reshard": 2},
]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layout", ALL, ids=str)
def test_every_composition_trains_as_one(layout, tied):
    assert furthest(layout, 1, tie_word_embeddings=tied) < CLOSE["fp64"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "selective", "full"])
def test_compiled_blocks_train_as_one_in_every_composition(kind):
    layout = {"shard": 2, "tensor": 2, "compile": True, "recompute": kind}
    assert furthest(layout, 2, function=compiled, **FEW) < CLOSE["fp64"]


@pytest.mark.slow
def test_the_real_compiler_does_not_change_what_is_learnt():
    assert furthest({"shard": 2, "tensor": 2, "compile": True}, 2, **FEW) < CLOSE["fp64"]
