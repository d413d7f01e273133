"""What a step of pre-training reads, as tensors on the device, and its loss."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puna.data.loader import Batch, Loader, Row, Share
from puna.data.shard_set import ShardSet
from puna.model.attend import segments
from puna.model.transformer import Attend
from puna.train.loss import chunked_cross_entropy
from puna.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Part:
    """Some sequences of a batch, on the device. All (B, T); where ranks share sequences (B, T / context), but
    for documents.
    """

    tokens: Tensor
    targets: Tensor
    positions: Tensor
    documents: Tensor
    weights: Tensor


class Batches:
    """Batch n of a run, through all its stages: this rank's share, in parts of `micro` sequences."""

    def __init__(
        self,
        recipe: TrainRecipe,
        device: str,
        share: int = 0,
        shares: int = 1,
        own: Callable[[Part], Part] = lambda part: part,
    ):
        """`own` takes what this rank reads of a part: with a world, `partial(context.own, world=world)`."""
        self.recipe, self.device, self.share, self.shares, self.own = recipe, device, share, shares, own
        self.longest = max(stage.sequence for stage in recipe.stage)
        unit = math.lcm(*(stage.sequence for stage in recipe.stage))
        sets = {name: ShardSet(path) for name, path in recipe.data.items()}
        self.rows = {name: Row(shards, unit, recipe.seed, recipe.held_out) for name, shards in sets.items()}
        self.stages, before = [], dict.fromkeys(sets, 0)
        self._one_reads = threading.Lock()  # shards are opened and let go on the way
        for stage in recipe.stage:
            shares = [Share(self.rows[name], weight, before[name]) for name, weight in stage.weights.items()]
            loader = Loader(shares, stage.sequence, recipe.seed)
            self.stages.append((stage, loader))
            read = loader.counts(stage.sequences) * stage.sequence
            for name, tokens in zip(stage.weights, read.tolist(), strict=True):
                before[name] += tokens

    def __call__(self, number: int) -> list[Part]:
        for stage, loader in self.stages:
            if number < stage.steps or loader is self.stages[-1][1]:
                first, size = stage.at(number)
                count = size // self.shares
                with self._one_reads:
                    batch = loader.batch(first + self.share * count, count)
                return self._parts(batch)
            number -= stage.steps
        raise AssertionError

    def held_out(self, name: str, most: int) -> Iterator[Part]:
        """What is never trained on, up to so many sequences of it: this rank's share, in as many parts as any
        rank's, the last ones perhaps without weight.
        """
        row, micro = self.rows[name], self.recipe.micro
        count = min(most, row.held * row.unit // self.longest)
        each = -(-count // self.shares)
        start = self.share * each
        for first in range(start, start + each, micro):
            found = min(first + micro, start + each, count) - first
            with self._one_reads:
                batch = row.held_batch(first if found > 0 else 0, max(found, 1), self.longest)
            for part in self._parts(batch):
                yield part if found > 0 else replace(part, weights=torch.zeros_like(part.weights))

    def _parts(self, batch: Batch) -> list[Part]:
        columns = [torch.from_numpy(np.ascontiguousarray(getattr(batch, name))).to(self.device)
                   for name in (field.name for field in fields(Part))]  # fmt: skip
        split = [column.split(self.recipe.micro) for column in columns]
        return [self.own(Part(*part)) for part in zip(*split, strict=True)]


class Ahead:
    """The same batches, made by a thread while the ones before are learned from."""

    def __init__(self, batches: Callable[[int], Sequence[Any]], depth: int):
        self.batches, self.depth = batches, depth
        self._worker = ThreadPoolExecutor(1, "batches")
        self._coming: dict[int, Future] = {}

    def __call__(self, number: int) -> Sequence[Any]:
        wanted = range(number, number + 1 + self.depth)
        for other in self._coming.keys() - wanted:  # the run has jumped
            self._coming.pop(other).cancel()
        for one in wanted:
            if one not in self._coming:
                self._coming[one] = self._worker.submit(self.batches, one)
        return self._coming.pop(number).result()

    def close(self) -> None:
        self._coming.clear()
        self._worker.shutdown(cancel_futures=True)


def next_token_loss(
    model: nn.Module, part: Part, z: float = 0.0, attention: Callable[[Tensor], Attend] = segments
) -> Tensor:
    """Sums of a language model's loss, each document by itself: (2,)."""

    def read(hidden: Tensor, head: Tensor) -> Tensor:
        return chunked_cross_entropy(hidden, head, part.targets, part.weights, z)

    return model(part.tokens, part.positions, attention(part.documents), read)
