"""What the same sums say of runs whose cost was published: the planner's own test, line by line.

Two constants (machines.py: A_DOUBLING, ATTENTION) were set with the three shares of the peak in view; the
hours are predictions. Layouts of the 8B and the 70B were never published, so theirs are ours.
"""

from dataclasses import dataclass

from puna.parallel.layout import Layout
from puna.plan.counts import herd, training_flops
from puna.plan.machines import GOODPUT, gpu
from puna.plan.memory import Work
from puna.plan.speed import speed

H100 = "h100"
TALL = {"pipeline": 16, "tensor": 8, "schedule": "interleaved", "stages": 8, "compile": True}
TABLE_4 = (  # [P Table 4, third version]; 8 stages a rank: 126 layers, embedding and head over 128 stages
    ("405B, 8,192 GPUs, 8K", Layout(shard=64, **TALL), Work(batch=2048), 0.43),
    ("405B, 16,384 GPUs, 8K", Layout(shard=128, **TALL), Work(batch=2048), 0.41),
    ("405B, 16,384 GPUs, 131K", Layout(shard=8, context=16, **TALL), Work(sequence=131_072, batch=128), 0.38),
)
SMALL = Layout(shard=8, replicate=128, recompute="selective", compile=True)
MIDDLE = Layout(tensor=8, shard=256, recompute="selective", compile=True)
LONG = 0.8e12  # tokens of the stage that lengthens the context [P 3.4.2]; half of its length on average
HOURS = (  # model, tokens, layout of ordinary training, of long sequences, GPU-hours [model cards]
    ("3-8b", 15e12, SMALL, None, 1.3e6),
    ("3-70b", 15e12, MIDDLE, None, 6.4e6),
    (
        "3.1-8b",
        15e12,
        SMALL,
        Layout(shard=8, replicate=128, context=1, recompute="full", compile=True),
        1.46e6,
    ),
    ("3.1-70b", 15e12, MIDDLE, Layout(tensor=8, context=8, shard=32, recompute="full", compile=True), 7.0e6),
    ("3.1-405b", 15.6e12, TABLE_4[1][1], TABLE_4[2][1], 30.84e6),
)


@dataclass(frozen=True)
class Compared:
    what: str
    unit: str
    predicted: float
    published: float
    lines: dict[str, float]  # what the prediction is made of

    @property
    def ratio(self) -> float:
        return self.predicted / self.published


def compared() -> list[Compared]:
    """Every published figure beside ours."""
    return [*_shares(), *_hours()]


def _shares() -> list[Compared]:
    rows = []
    for name, layout, work, published in TABLE_4:
        step = speed(herd("405b"), layout, work, gpu(H100))
        lines = {line: seconds / step.seconds for line, seconds in step.lines.items() if seconds}
        rows.append(Compared(name, "MFU, causal count", step.mfu(), published, lines))
    return rows


def _hours() -> list[Compared]:
    rows = []
    for name, tokens, layout, long, published in HOURS:
        short = tokens - (LONG if long else 0)
        lines = {"at 8K": _gpu_hours(name, short, layout, 8192)}
        if long:
            lines["at 8K to 128K"] = _gpu_hours(name, LONG, long, 65_536)
        lines["restarts, maintenance"] = sum(lines.values()) * (1 / GOODPUT - 1)
        hours = sum(lines.values())
        lines["not explained"] = published - hours
        rows.append(Compared(f"{name}, {tokens / 1e12:g}T tokens", "GPU-hours", hours, published, lines))
    return rows


def _gpu_hours(name: str, tokens: float, layout: Layout, sequence: int) -> float:
    batch = max(2**24 // sequence, layout.readers)
    return tokens / speed(herd(name), layout, Work(sequence=sequence, batch=batch), gpu(H100)).rate / 3600


def implied_flops(name: str, tokens: float, gpu_hours: float) -> float:
    """FLOP/s that each GPU did on average if published hours were training alone."""
    return training_flops(herd(name), 8192) * tokens / (gpu_hours * 3600)
