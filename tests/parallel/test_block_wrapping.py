"""What is done to a block by name: what it makes again, how often it is compiled. One process is enough."""

from collections import Counter

import pytest
import torch
from parallel.parity import CONFIG, apart, columns, trained
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from puna.model.init import initialize
from puna.parallel.apply import build
from puna.parallel.layout import Layout
from puna.parallel.world import World
from puna.train.batches import Part, next_token_loss

L = CONFIG.num_hidden_layers
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


class Count(TorchDispatchMode):
    """Every operation that is carried out, by name."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen[function._schema.name] += 1
        return function(*args, **(kwargs or {}))


def small(**layout):
    model = build(CONFIG, World(Layout(**layout)), torch.float64)[0].double()
    initialize(model, CONFIG, 0)
    return model


def one_document() -> Part:
    tokens, targets, _, _, weights = columns(0)
    places = torch.arange(tokens.shape[1]).expand(tokens.shape)
    return Part(tokens, targets, places, torch.zeros_like(tokens), weights)


@pytest.mark.parametrize("kind, products, attention", [("none", 0, 0), ("selective", 3, 0), ("full", 6, 1)])
def test_of_a_blocks_work_so_much_is_done_again(kind, products, attention):
    """Seven products a block: the last adds to the stream, so nobody asks for it again."""
    model = small(recompute=kind)
    part = one_document()
    with Count() as count:
        next_token_loss(model, part)[0].backward()
    rows = len(part.tokens)
    assert count.seen["aten::mm"] == (3 * 7 + products) * L + 3
    assert count.seen[ATTENTION] == (1 + attention) * L * rows
    assert set(dict(model.named_parameters())) == set(dict(small().named_parameters()))


@pytest.mark.parametrize("kind", ["selective", "full"])
def test_what_is_made_again_is_the_same(kind):
    assert max(apart(trained({"recompute": kind}, "fp64", 8), trained({}, "fp64", 8)).values()) < 1e-12


@pytest.mark.filterwarnings("ignore")  # torch warns of its own compiler
@pytest.mark.parametrize("kind", ["none", "full"])
def test_a_new_batch_compiles_nothing_new(kind):
    """The function that attends is another one for every batch."""
    torch._dynamo.reset()
    counters.clear()
    model, graphs = small(recompute=kind, compile=True), []
    with torch.compiler.set_stance("default", force_backend="aot_eager"):
        for number in range(3):
            next_token_loss(model, Part(*columns(number)))[0].backward()
            graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[0] == graphs[2] <= 4
    assert set(dict(model.named_parameters())) == set(dict(small().named_parameters()))
