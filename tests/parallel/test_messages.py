"""How often ranks talk in a step, counted, against the formula."""

from collections import Counter

import pytest
import torch
from parallel.parity import CONFIG, share
from parallel.pool import ranks
from torch.distributed.tensor.debug import CommDebugMode

from puna.model.init import initialize
from puna.parallel.apply import build
from puna.parallel.layout import Layout
from puna.parallel.world import World
from puna.train.batches import next_token_loss

pytestmark = pytest.mark.ranks


def counted(layout: dict, layers: int) -> list[dict[str, int]]:
    """Messages by kind, on the way forward and on the way back, of one part of a batch."""
    world, config = World(Layout(**layout)), CONFIG.model_copy(update={"num_hidden_layers": layers})
    model = build(config, world, torch.float32)[0]
    initialize(model, config, 0)
    with CommDebugMode() as forward:
        loss = next_token_loss(model, share(world, 4)(0)[0])[0]
    with CommDebugMode() as back:
        loss.backward()
    return [kinds(mode.get_comm_counts()) for mode in (forward, back)]


def kinds(counts: dict) -> dict[str, int]:
    found = Counter()
    for operation, count in counts.items():
        name = str(operation).replace("_", "")
        found[next(kind for kind in ("gather", "scatter", "reduce") if kind in name)] += count
    return dict(found)


@pytest.mark.parametrize("layers", [2, 3])
def test_tensor_parallelism_gathers_and_scatters_twice_a_layer_each_way(layers):
    """And once more at the embedding and at the head; a chunk's loss is one exchange more, norms add up theirs."""
    ends, norms = 2 * layers + 1, 2 * layers + 1
    for forward, back in ranks(2)(counted, {"tensor": 2}, layers):
        assert forward == {"gather": ends + 1, "scatter": ends}
        assert back == {"gather": ends, "scatter": ends, "reduce": norms}
    for forward, back in ranks(2)(counted, {"tensor": 2, "loss_parallel": False}, layers):
        assert forward == {"gather": ends, "scatter": ends, "reduce": 1}
        assert back == {"gather": ends, "scatter": ends, "reduce": norms}


@pytest.mark.parametrize("reshard, again", [("always", 1), ("never", 0)])
def test_shards_are_gathered_once_a_block_each_way_and_scattered_once(reshard, again):
    blocks = 3 + 1  # layers; the embedding, norm and head together
    for forward, back in ranks(2)(counted, {"shard": 2, "reshard": reshard}, 3):
        assert forward == {"gather": blocks}
        assert back == {"scatter": blocks} | ({"gather": blocks} if again else {})
