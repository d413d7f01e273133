"""Every layout of a model over so many processors: which are legal, which fit, how fast each is; and of those
that do not, why.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from puna.errors import ConfigError
from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.plan.machines import Gpu, room
from puna.plan.memory import Memory, Work, memory
from puna.plan.speed import Speed, speed

SCHEDULES = (("1f1b", 1), ("interleaved", 2), ("interleaved", 4), ("interleaved", 8), ("zbv", 2))
RECOMPUTE = ("none", "selective", "full")
MICRO = (1, 2, 4, 8)


@dataclass(frozen=True)
class Choice:
    layout: Layout
    work: Work
    memory: Memory
    speed: Speed


@dataclass(frozen=True)
class Found:
    """Layouts that fit, the fastest first; the one that comes nearest to fitting; why others do not do."""

    fit: tuple[Choice, ...]
    nearest: Choice | None
    reasons: tuple[tuple[str, int], ...]  # how many layouts each one ruled out


def search(config: ModelConfig, work: Work, machine: Gpu, ranks: int) -> Found:
    """All layouts of `ranks` processors for a batch; `work.micro` is searched too."""
    fit, nearest, reasons = [], None, Counter[str]()
    for layout in layouts(config, machine, ranks):
        for micro in MICRO:
            asked = work.model_copy(update={"micro": micro})
            why = refused(config, layout, asked)
            if why:
                reasons[why] += 1
                continue
            needs = memory(config, layout, asked)
            if nearest is None or needs.total < nearest[0].total:
                nearest = (needs, layout, asked)
            if needs.total > room(machine):
                reasons[f"{max(needs.terms, key=needs.terms.__getitem__)} do not fit"] += 1
                continue
            fit.append(Choice(layout, asked, needs, speed(config, layout, asked, machine)))
    fit.sort(key=lambda choice: choice.speed.seconds)
    near = None
    if nearest:
        near = Choice(nearest[1], nearest[2], nearest[0], speed(config, nearest[1], nearest[2], machine))
    return Found(tuple(fit), near, tuple(reasons.most_common()))


def refused(config: ModelConfig, layout: Layout, work: Work) -> str:
    """Why a layout cannot be, in few words; "" if it can."""
    share, over = divmod(work.batch, layout.readers)
    if over or share % work.micro:
        return "the batch does not fall evenly to the ranks"
    try:
        layout.check(config, work.sequence, work.batch, work.micro)
    except ConfigError as problem:
        text = str(problem).removeprefix("layout: ").partition("\n")[0]
        return re.sub(r"\d[\d,]*", "N", text)  # one reason, whatever the numbers
    return ""


def layouts(config: ModelConfig, machine: Gpu, ranks: int) -> Iterator[Layout]:
    """Worth trying: powers of two, tensor within a node, shards over all ranks or over one node."""
    for tensor in (
        t for t in _powers(machine.node) if config.num_key_value_heads % t == 0 and ranks % t == 0
    ):
        for context in (c for c in _powers(16) if ranks // tensor % c == 0):
            for pipeline in (p for p in _powers(32) if ranks // tensor // context % p == 0):
                rest = ranks // tensor // context // pipeline
                for shard in dict.fromkeys((rest, min(rest, max(1, machine.node // tensor)))):
                    if rest % shard == 0:
                        yield from _kinds(tensor, context, pipeline, shard, rest // shard)


def _kinds(tensor: int, context: int, pipeline: int, shard: int, replicate: int) -> Iterator[Layout]:
    for schedule, stages in SCHEDULES if pipeline > 1 else SCHEDULES[:1]:
        for recompute in RECOMPUTE:
            for reshard in (None,) if pipeline > 1 else ("always", "never"):
                yield Layout(
                    pipeline=pipeline, replicate=replicate, shard=shard, context=context, tensor=tensor,
                    schedule=schedule, stages=stages, reshard=reshard, recompute=recompute,
                    compile=schedule != "zbv",
                )  # fmt: skip


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]
