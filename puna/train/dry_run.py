"""A step of training rehearsed without the machine: the real model in its real layout, among as many
pretended ranks, with tensors that have shapes and no numbers; what would be held is counted.

The plan (plan/memory.py) says the same from formulas in milliseconds; this is what holds the formulas to the
code. Stages of a pipeline are rehearsed one by one, each in a process of its own, with as many parts of a
batch under way as its schedule allows. What an optimizer remembers is added by formula.
"""

import multiprocessing
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import FSDPModule
from torch.testing._internal.distributed.fake_pg import FakeStore

from puna import hardware
from puna.model.config import ModelConfig
from puna.model.transformer import Attend, Llama
from puna.parallel.apply import build
from puna.parallel.context import attention
from puna.parallel.layout import Layout
from puna.parallel.world import World
from puna.plan.flow import passes
from puna.plan.memory import Work, memory_at
from puna.train.batches import Part, next_token_loss
from puna.train.held import Held

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Tracked:
    """One place of the pipeline: bytes that were counted, and that the plan says."""

    place: int
    layers: int
    tracked: int
    planned: int
    seconds: float


def rehearse(config: ModelConfig, layout: Layout, work: Work) -> list[Tracked]:
    """The first, a middle and the last place of the pipeline, each in a process of its own."""
    layout = layout.model_copy(update={"compile": False})  # compilers want numbers
    places = sorted({0, layout.pipeline // 2, layout.pipeline - 1})
    with multiprocessing.get_context("spawn").Pool(hardware.cores(), maxtasksperchild=1) as processes:
        asked = [(config, layout, work, place) for place in places]
        return processes.starmap(track, asked, chunksize=1)


def track(config: ModelConfig, layout: Layout, work: Work, place: int) -> Tracked:
    """Forward and back on one rank of this place; the process must not have ranks of its own."""
    start = time.perf_counter()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)  # PyTorch's own, of FSDP looking at tensors without numbers
    work = work.model_copy(update={"device": "fake"})
    rank = place * (layout.ranks // layout.pipeline)
    dist.init_process_group("fake", rank=rank, world_size=layout.ranks, store=FakeStore())
    world = World(layout)
    models = build(config, world, DTYPES[work.dtype])
    attend = attention(world)(_documents(work))  # reads them, so before there are no numbers
    with FakeTensorMode(allow_non_fake_inputs=True):
        for model in models:
            model.to_empty(device="cpu")
            if config.tie_word_embeddings:
                model.lm_head.weight = model.model.embed_tokens.weight
        with Held() as held:
            for weight in (weight for model in models for weight in model.parameters()):
                held.see(weight)
            _steps(_Rank(config, layout, work, place, models, attend), work.parts(layout))
    dist.destroy_process_group()
    planned = memory_at(config, layout, work, place)
    layers = sum(len(model.model.layers) for model in models)
    seconds = time.perf_counter() - start
    return Tracked(place, layers, held.peak + planned.terms["optimizer"], planned.total, seconds)


def _documents(work: Work) -> Tensor:
    """Texts of the mean length, (B, T)."""
    rows = torch.arange(work.sequence) // (work.text or work.sequence)
    return rows + torch.arange(work.micro)[:, None] * work.sequence


class _Rank:
    """What one rank does with a part of a batch."""

    def __init__(
        self, config: ModelConfig, layout: Layout, work: Work, place: int, models: list[Llama], attend: Attend
    ):
        self.models, self.attend, self.work = models, attend, work
        self.passes = passes(layout, place, work.parts(layout))
        rows = (work.micro, work.sequence // layout.context)
        ids, ones = torch.zeros(rows, dtype=torch.long), torch.ones(rows)
        self.part = Part(ids, ids, ids, torch.zeros(work.micro, work.sequence, dtype=torch.long), ones)
        between = (rows[0], rows[1] // layout.tensor, config.hidden_size)
        ways = sum((m.model.embed_tokens is None) + (m.lm_head is None) for m in models)
        room = (ways * work.parts(layout), *between)  # PyTorch's stages make it for all parts at once
        self.travel = torch.empty(room, dtype=DTYPES[work.dtype]) if ways else None

    def forward(self, stage: int) -> Callable[[], None]:
        """One stage's pass; what is returned is its way back."""
        model, hidden = self.models[stage], None
        if model.model.embed_tokens is None:
            hidden = self.travel[0].detach().requires_grad_()

        def called(tokens, positions, attend, read=None):
            return model(tokens if hidden is None else hidden, positions, attend, read)

        found = next_token_loss(called, self.part, attention=lambda _: self.attend)

        def back() -> None:
            if model.lm_head is None:
                found.backward(self.travel[0])
            else:
                found[0].backward()

        return back

    def send(self, gradients: bool) -> None:
        """Whether the next way back adds up gradients with other ranks."""
        for model in self.models:
            assert isinstance(model, FSDPModule)
            model.set_requires_gradient_sync(gradients)
            if len(self.models) > 1 or model.model.embed_tokens is None or model.lm_head is None:
                model.set_reshard_after_backward(gradients)


def _steps(rank: _Rank, parts: int) -> None:
    """As many parts under way as there may be, with gradients of earlier ones there; then their ways back."""
    rank.send(gradients=parts == 1)
    if parts > 1:
        for stage in range(len(rank.models)):  # from now on every gradient has its place
            rank.forward(stage)()
    under_way = [(stage, rank.forward(stage)) for stage in rank.passes]
    under_way.sort(key=lambda one: -one[0])  # back through the last stage first
    while len(under_way) > 1:
        under_way.pop(0)[1]()
    rank.send(gradients=True)
    under_way.pop()[1]()
