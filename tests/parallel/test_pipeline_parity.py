"""However the layers are spread over a pipeline, it trains as one process does."""

from collections import Counter
from functools import lru_cache

import pytest
from parallel.parity import BATCH, CONFIG, SEQUENCE, apart, columns, share, told, trained, trainee
from parallel.pool import ranks
from torch.distributed.fsdp import FSDPModule
from torch.utils._python_dispatch import TorchDispatchMode

from puna.errors import ConfigError
from puna.model.config import HERD
from puna.parallel.layout import Layout
from puna.parallel.stages import owner, split
from puna.train.batches import Part, next_token_loss

CLOSE = 1e-10
SCHEDULES = ["gpipe", "1f1b", "interleaved", "looped_bfs", "interleaved_zero_bubble", "zbv", "dualpipev"]


@lru_cache
def alone(dtype="fp64", **config):
    return trained({}, dtype, **config)


def test_405b_over_16_ranks_is_split_as_llama_3_was():
    layers = HERD["3.1-405b"].num_hidden_layers
    assert [len(held) for held in split(layers, 16)] == [7] + 14 * [8] + [7]
    assert [len(held) for held in split(layers, 128)] == [0] + 126 * [1] + [0]  # 8 stages a rank: ends alone


@pytest.mark.parametrize("layers", [1, 4, 5, 16, 32, 80, 126])
def test_stages_are_as_even_as_they_can_be_and_leave_no_layer_out(layers):
    for stages in range(2, layers + 3):
        held = split(layers, stages)
        assert [layer for some in held for layer in some] == list(range(layers))
        work = [len(some) for some in held]
        work[0] += 1
        work[-1] += 1
        assert max(work) - min(work) <= 1
        assert layers < stages or min(map(len, held)) > 0


def test_a_v_shaped_schedule_ends_where_it_began():
    assert [owner(stage, 4, True) for stage in range(8)] == [0, 1, 2, 3, 3, 2, 1, 0]
    assert [owner(stage, 4, False) for stage in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("layout", "micro", "said"),
    [
        ({"stages": 2}, 1, "1f1b has 1 stages a rank"),
        ({"schedule": "zbv", "stages": 3}, 1, "zbv has 2 stages a rank"),
        ({"schedule": "interleaved", "stages": 4}, 1, "do not fill 8 stages"),
        ({}, 3, "8 sequences do not fall into parts of 3"),
        ({}, 8, "1f1b with 2 stages needs as many parts"),
        ({"schedule": "dualpipev"}, 4, "dualpipev with 4 stages needs as many parts"),
        ({"pipeline": 3, "schedule": "interleaved"}, 1, ""),
        (
            {"pipeline": 3, "schedule": "interleaved", "batch": 7},
            1,
            "7 parts of a batch evenly into 2 rounds",
        ),
        ({"schedule": "zbv", "compile": True}, 1, "in compiled layers"),
        ({"schedule": "zbv", "reshard": "always"}, 1, "let go after the forward pass"),
        ({"tied": True}, 1, "cannot share one matrix"),
    ],
    ids=str,
)
def test_a_pipeline_that_cannot_be_is_refused_with_the_reason(layout, micro, said):
    layout = {"pipeline": 2} | layout
    batch, tied = layout.pop("batch", BATCH), layout.pop("tied", False)
    config = CONFIG.model_copy(update={"tie_word_embeddings": tied})
    if not said:
        return Layout(**layout).check(config, SEQUENCE, batch, micro)
    with pytest.raises(ConfigError, match=said):
        Layout(**layout).check(config, SEQUENCE, batch, micro)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "more", [*({"schedule": name} for name in SCHEDULES), {"schedule": "zbv", "recompute": "full"}], ids=str
)
def test_two_ranks_of_a_pipeline_train_as_one(more):
    for found in ranks(2)(trained, {"pipeline": 2} | more):
        assert max(apart(found, alone()).values()) < CLOSE


def two_layers(layout):
    return trained(layout, num_hidden_layers=2)


@pytest.mark.ranks
def test_an_embedding_and_a_head_may_be_stages_of_their_own():
    for found in ranks(2)(two_layers, {"pipeline": 2, "schedule": "interleaved"}):
        assert max(apart(found, alone(num_hidden_layers=2)).values()) < CLOSE


def judged_between(layout):
    """Parts of 1 sequence, then of 2, and between the steps the loss of parts of 1 and of 3."""
    found = trainee(layout)
    steps = found.steps(share(found.world, 1), 1)
    parts = [Part(*(column[:1] for column in columns(9))), Part(*(column[1:4] for column in columns(9)))]
    if layout:
        sums = found.world.over_stages(found.accumulate.judge(parts))
    else:
        sums = sum(next_token_loss(found.models[0], part).detach() for part in parts)
    steps += found.steps(share(found.world, 2), 3)
    return told(found, steps), sums.tolist()


@pytest.mark.ranks
@pytest.mark.parametrize("schedule", ["1f1b", "zbv"])
def test_a_pipeline_judges_between_steps_and_changes_the_size_of_parts(schedule):
    expected, sums = judged_between({})
    for found, judged in ranks(2)(judged_between, {"pipeline": 2, "schedule": schedule}):
        assert max(apart(found, expected).values()) < CLOSE
        assert judged == pytest.approx(sums, rel=1e-12)


class Seen(TorchDispatchMode):
    """How often each operation was called. (CommDebugMode also follows modules, which parts in flight upset.)"""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def operations(layout):
    """Of one step, by name; how many things are sharded by themselves; how many parts a rank reads."""
    found = trainee(layout)
    batches = share(found.world, 1)
    found.steps(batches, 1)  # the first one also agrees on shapes
    with Seen() as seen:
        found.steps(batches, 2)
    sharded = [
        module for model in found.models for module in model.modules() if isinstance(module, FSDPModule)
    ]
    weighty = [module for module in sharded if own_weights(module)]
    return seen.counts, len(weighty), len(batches(0))


def own_weights(module):
    """Those that no FSDP module inside it has."""
    inner = {id(weight) for child in module.modules() if child is not module and isinstance(child, FSDPModule)
             for weight in child.parameters()}  # fmt: skip
    return [weight for weight in module.parameters() if id(weight) not in inner]


@pytest.mark.ranks
def test_a_block_is_made_again_once_a_part_whatever_the_schedule():
    once = ranks(2)(operations, {"pipeline": 2, "schedule": "zbv"})
    twice = ranks(2)(operations, {"pipeline": 2, "schedule": "zbv", "recompute": "full"})
    for (plain, _, parts), (again, _, _) in zip(once, twice, strict=True):
        assert plain["silu"] == parts * CONFIG.num_hidden_layers // 2
        assert again["silu"] == 2 * plain["silu"]


@pytest.mark.ranks
@pytest.mark.parametrize("schedule", ["interleaved_zero_bubble", "zbv"])
def test_gradients_of_parts_add_up_in_fp32_though_the_model_computes_in_16_bits(schedule):
    one = ranks(2)(trained, {"pipeline": 2}, "bf16")[0]
    other = ranks(2)(trained, {"pipeline": 2, "schedule": schedule}, "bf16")[0]
    assert apart(one, other)["gradients"] < 1e-5


@pytest.mark.ranks
@pytest.mark.parametrize(("schedule", "borders"), [("1f1b", 1), ("zbv", 2)])
def test_in_a_step_weights_and_gradients_travel_once_and_hidden_states_once_a_part(schedule, borders):
    for seen, sharded, parts in ranks(4)(operations, {"pipeline": 2, "shard": 2, "schedule": schedule}):
        assert seen["_allgather_base_"] == seen["_reduce_scatter_base_"] == sharded
        assert seen["send"] == seen["recv_"] == borders * parts


SHARDS, PIECES, CHUNKS = {"shard": 2}, {"tensor": 2}, {"context": 2}
slow = pytest.mark.slow


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("size", "more"),
    [
        (4, SHARDS | {"schedule": "interleaved_zero_bubble", "recompute": "selective"}),
        (4, PIECES | {"schedule": "zbv", "loss_parallel": False}),
        (4, CHUNKS | {"schedule": "1f1b", "recompute": "full"}),
        *[pytest.param(4, more | {"schedule": schedule}, marks=slow)
          for schedule in SCHEDULES for more in (SHARDS, {"replicate": 2}, PIECES, CHUNKS)],
        *[pytest.param(4, SHARDS | {"schedule": schedule, "reshard": "always"}, marks=slow)
          for schedule in ("gpipe", "1f1b", "interleaved", "looped_bfs")],
        *[pytest.param(4, SHARDS | {"schedule": schedule, "recompute": kind}, marks=slow)
          for schedule in ("1f1b", "interleaved", "zbv") for kind in ("full", "selective")],
        (8, SHARDS | PIECES | {"schedule": "zbv", "recompute": "full"}),
        *[pytest.param(8, SHARDS | PIECES | {"schedule": schedule}, marks=slow) for schedule in SCHEDULES],
        *[pytest.param(8, SHARDS | CHUNKS | {"schedule": schedule}, marks=slow) for schedule in ("1f1b", "zbv")],
        pytest.param(8, CHUNKS | PIECES | {"schedule": "dualpipev"}, marks=slow),
        *[pytest.param(16, SHARDS | CHUNKS | PIECES | {"schedule": schedule, "recompute": "full"}, marks=slow)
          for schedule in ("interleaved", "zbv")],
    ],
    ids=str,
)  # fmt: skip
def test_a_pipeline_of_shards_pieces_and_chunks_trains_as_one(size, more):
    """Up to all dimensions at once, on 16 ranks."""
    for found in ranks(size)(trained, {"pipeline": 2} | more):
        assert max(apart(found, alone()).values()) < CLOSE
