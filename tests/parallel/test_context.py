"""A sequence cut over ranks trains as a whole one does, whatever documents it holds."""

from functools import lru_cache, partial
from inspect import getfile

import numpy as np
import pytest
import torch
from parallel.parity import CONFIG, apart, columns, share, trained
from parallel.pool import ranks
from torch.distributed.tensor.debug import CommDebugMode

from puna.errors import ConfigError
from puna.model.attend import documents, segments
from puna.model.config import HERD
from puna.model.init import initialize
from puna.parallel.apply import build
from puna.parallel.balance import chunks, pairs
from puna.parallel.context import attention
from puna.parallel.layout import Layout
from puna.parallel.world import World
from puna.train.batches import next_token_loss
from tests.house.shapes import ShapeChecker

CLOSE = 1e-10


@lru_cache
def alone(dtype="fp64", **config):
    return trained({}, dtype, **config)


def furthest(layout, micro=2):
    """The largest difference from one process, on any rank."""
    told = ranks(Layout(**layout).ranks)(trained, layout, "fp64", micro)
    return max(max(apart(found, alone()).values()) for found in told)


@pytest.mark.ranks
def test_two_ranks_that_share_sequences_train_as_one():
    assert furthest({"context": 2}, micro=4) < CLOSE
    near = apart(ranks(2)(trained, {"context": 2}, "fp32", 4)[0], alone("fp32"))
    assert max(near["losses"], near["gradients"]) < 1e-5
    assert near["weights"] < 1e-4  # a hundredth of a step: Adam makes steps of the smallest gradients too


def talk(layout):
    """What the ranks of a layout say to each other on the way forward and until the end of the way back."""
    world = World(Layout(**layout))
    (model,) = build(CONFIG, world, torch.float32)
    initialize(model, CONFIG, 0)
    part = share(world, 2)(0)[0]
    with CommDebugMode() as counted, ShapeChecker(getfile(attention)) as shapes:
        loss = next_token_loss(model, part, attention=attention(world))
        forward = dict(counted.get_comm_counts())
        loss[0].backward()
    assert shapes.checked or world.layout.context == 1
    return [{str(name).split(".")[-1]: count for name, count in counts.items()}
            for counts in (forward, counted.get_comm_counts())]  # fmt: skip


@pytest.mark.ranks
def test_a_layer_gathers_its_keys_and_values_once_and_scatters_their_gradients_once():
    layers = CONFIG.num_hidden_layers
    gathers, scatters = {"all_gather_into_tensor": layers}, {"reduce_scatter_tensor": layers}
    for cut, plain in zip(ranks(2)(talk, {"context": 2}), ranks(2)(talk, {"shard": 2}), strict=True):
        assert cut == [plain[0] | gathers, plain[1] | gathers | scatters]


@pytest.mark.ranks
@pytest.mark.parametrize(
    "layout",
    [
        {"context": 4},
        {"shard": 2, "context": 2},
        {"replicate": 2, "context": 2, "reshard": "never"},
        pytest.param({"context": 2, "tensor": 2, "recompute": "selective"}, marks=pytest.mark.slow),
        {"pipeline": 2, "context": 2, "schedule": "zbv", "recompute": "full"},
    ],
    ids=str,
)
def test_four_ranks_that_share_sequences_train_as_one(layout):
    assert furthest(layout, 1 if "pipeline" in layout else 2) < CLOSE


@pytest.mark.ranks
def test_eight_ranks_that_share_weights_sequences_and_matrices_train_as_one():
    assert furthest({"shard": 2, "context": 2, "tensor": 2, "recompute": "full"}) < CLOSE


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.parametrize(
    "layout",
    [
        {"pipeline": 2, "shard": 2, "context": 2, "schedule": "interleaved"},
        {"pipeline": 2, "context": 2, "tensor": 2, "schedule": "zbv", "recompute": "full"},
        {"pipeline": 2, "context": 4, "schedule": "1f1b", "recompute": "selective"},
        {"pipeline": 2, "shard": 2, "context": 2, "tensor": 2},
    ],
    ids=str,
)
def test_all_dimensions_together_train_as_one(layout):
    assert furthest(layout, micro=1) < CLOSE


@pytest.mark.parametrize(
    ("dtype", "length", "context"),
    [(torch.float64, 24, 2), (torch.float64, 2400, 2), (torch.bfloat16, 48, 3), (torch.bfloat16, 1200, 1)],
)
def test_the_chunks_of_all_ranks_see_what_the_whole_row_sees(dtype, length, context):
    dice = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(2, length, heads, 8, generator=dice, dtype=dtype, requires_grad=True)
               for heads in (4, 2, 2))  # fmt: skip
    owner = (torch.rand(2, length, generator=dice) < torch.tensor([[4.0 / length], [0.3]])).cumsum(1)
    whole = documents(owner)(0, q, k, v)
    n = length // (2 * context)
    parts = [segments(owner, at, at + n)(0, q[:, at : at + n], k, v) for at in range(0, length, n)]
    weigh = torch.randn(whole.shape, generator=dice, dtype=dtype)
    ours, theirs = (
        torch.autograd.grad((out * weigh).sum(), (q, k, v)) for out in (torch.cat(parts, 1), whole)
    )
    close = {"atol": 2e-2, "rtol": 2e-2} if dtype == torch.bfloat16 else {"atol": 1e-12, "rtol": 1e-12}
    torch.testing.assert_close(torch.cat(parts, 1), whole, **close)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **close)


def test_every_rank_has_the_same_work_and_of_documents_it_is_known():
    for context in (2, 4, 16):
        assert len(set(pairs(np.zeros((1, 64 * context), int), context))) == 1
        held = [number for place in range(context) for number in chunks(place, context)]
        assert sorted(held) == list(range(2 * context))
    owner = columns(0)[3]
    seen = (owner[:, :, None] == owner[:, None, :]).tril().sum((0, 2)).unflatten(0, (4, -1)).sum(1)
    assert pairs(owner.numpy(), 2).tolist() == [seen[0] + seen[3], seen[1] + seen[2]]


def test_sequences_that_do_not_fall_into_chunks_are_refused():
    check = partial(Layout(context=4, tensor=2).check, HERD["3-8b"], batch=8, micro=1)
    check(8192)
    for length in (8200, 8):
        with pytest.raises(ConfigError, match=r"do not fall into 16 pieces \(tensor = 2, context = 4\)"):
            check(length)
