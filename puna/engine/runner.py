"""The runner that is the definition: the plain torch model reads ids and gives the logits after them.

Faster runners have the same `run`; a law holds them to this one. It reads on the device and in the number
type of the model's weights; logits come back as fp32 on the CPU, where the choice is made.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from puna.model.attend import Memory
from puna.model.transformer import Llama


class Cancelled(Exception):
    """Reading was given up half-way; the memory holds what it held before."""


def never() -> bool:
    return False


class TorchRunner:
    def __init__(self, model: Llama):
        self.model = model

    @torch.inference_mode()
    def run(
        self, ids: Sequence[int], memory: Memory, rows: int = 1, cancelled: Callable[[], bool] = never
    ) -> Tensor:
        """Read `ids` after what `memory` holds; logits (rows, V) of the last `rows` positions.

        `cancelled` is asked before every layer: on a large model one chunk of a prompt takes seconds.
        """

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if cancelled():
                raise Cancelled
            return memory(layer, q, k, v)

        tokens = torch.tensor(ids, device=self.model.lm_head.weight.device)
        positions = torch.arange(memory.length, memory.length + len(ids), device=tokens.device)
        hidden = self.model.model(tokens, positions, attend)  # (T, D)
        memory.advance(len(ids))
        return self.model.lm_head(hidden[len(ids) - rows :]).float().cpu()
