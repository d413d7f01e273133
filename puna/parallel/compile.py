"""Each block through torch.compile, attention left out of its graphs.

What a position may look at is another function for every batch; a block compiled with it would be compiled
again for every batch. So a block always sees one and the same function, which looks up what is meant.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from puna.model.transformer import Attend


def compiled(block: nn.Module) -> None:
    """From now on this block runs compiled. Its shapes may vary."""
    place: dict[str, Callable] = {}

    @torch.compiler.disable
    def mix(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return place["mix"](q, k, v)

    inner = torch.compile(block.forward)

    def forward(x: Tensor, turn: tuple[Tensor, Tensor], attend: Attend, layer: int) -> Tensor:
        place["mix"] = partial(attend, layer)
        return inner(x, turn, mix, 0)  # a number of the layer would be compiled in too

    # the forward function, not the module: parameters keep their names
    block.forward = forward
