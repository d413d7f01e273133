"""Seconds that a step of training takes, line by line: matrices, attention, traffic, links, the pipeline.

What is assumed to go on beside computing, and so costs nothing until it takes longer than that: FSDP's
gathers and reductions (but the first and the last of a step), and what travels in the pipeline. What is not:
the exchanges of tensor and context parallelism, each of which the next product waits for.
"""

from dataclasses import dataclass

from puna.model.config import ModelConfig
from puna.parallel.layout import Layout
from puna.plan.counts import BYTES, training_flops
from puna.plan.flow import bubble
from puna.plan.machines import ATTENTION, CPU, EAGER, LINK, MATRICES, MEMORY, SMALL, UPDATE, Gpu, pace
from puna.plan.memory import WIDE, Part, Work, held, numbers_of


@dataclass(frozen=True)
class Speed:
    """A step: its lines add up to its seconds."""

    lines: dict[str, float]
    tokens: int
    ranks: int
    peak: float  # FLOP/s of one processor: the denominator
    causal: float  # FLOPs a token
    full: float

    @property
    def seconds(self) -> float:
        return sum(self.lines.values())

    @property
    def rate(self) -> float:
        """Tokens a second and rank."""
        return self.tokens / self.seconds / self.ranks

    def mfu(self, count: str = "causal") -> float:
        """Model FLOPs over the peak, by either count."""
        return self.rate * (self.causal if count == "causal" else self.full) / self.peak


def speed(config: ModelConfig, layout: Layout, work: Work, machine: Gpu) -> Speed:
    """Of a step; on a CPU from the rate of its products alone."""
    return _Step(config, layout, work, machine).speed()


class _Step:
    def __init__(self, c: ModelConfig, layout: Layout, work: Work, machine: Gpu):
        self.c, self.layout, self.work, self.machine = c, layout, work, machine
        self.parts = work.parts(layout)
        self.n = work.micro * work.sequence // layout.context
        self.s = self.n // layout.tensor
        self.e = 2 if work.dtype == "fp8" else BYTES[work.dtype]

    def speed(self) -> Speed:
        if self.work.device == "cpu":
            flops = self.work.batch * self.work.sequence * training_flops(self.c, self.work.sequence)
            return self.told({"all": flops / (CPU * self.machine.peak(self.work.dtype) * self.layout.ranks)})
        places = [held(self.layout, self.c.num_hidden_layers, p) for p in range(self.layout.pipeline)]
        slowest = max((self.of(part) for part in places), key=lambda lines: sum(lines.values()))
        lines = {name: seconds * self.parts for name, seconds in slowest.items()}
        lines["pipeline empty"] = bubble(self.layout, self.parts) * sum(lines.values())
        most = max(places, key=lambda part: numbers_of(self.c, self.layout, part))
        lines |= self.weights(most, sum(slowest.values()))
        lines["update"] = self.update(most)
        lines["slowest rank"] = sum(lines.values()) * (1 / pace(self.layout.ranks) - 1)
        return self.told(lines)

    def told(self, lines: dict[str, float]) -> Speed:
        c, w = self.c, self.work
        return Speed(
            lines, w.batch * w.sequence, self.layout.ranks, self.machine.peak(w.dtype),
            training_flops(c, w.sequence), training_flops(c, w.sequence, "full"),
        )  # fmt: skip

    def of(self, part: Part) -> dict[str, float]:
        """One part of a batch through one rank of the pipeline, forward and back."""
        layers, t = sum(part.layers), self.layout.tensor
        again = {"none": 0.0, "selective": 0.5, "full": 1.0}[self.layout.recompute]
        head = 3 * self.product(self.c.hidden_size, self.c.vocab_size // t, "bf16") if part.heads else 0.0
        matrices, attention, traffic = self.matrices(), self.attention(), self.traffic()
        tensor, context = self.tensor(), self.context()
        return {
            "matrices": layers * 3 * matrices + head,
            "attention": layers * (attention[0] + attention[1]),
            "number by number": layers * 3 * traffic,
            "computed again": layers
            * (again * matrices + (again == 1) * attention[0] + (again > 0) * traffic),
            "tensor links": layers * (2 + (again > 0)) * tensor,
            "context links": layers * (context[0] * (1 + (again > 0)) + context[1]),
        }

    def product(self, rows: int, columns: int, dtype: str) -> float:
        """n tokens times a matrix, forward."""
        share = MATRICES
        for side in (self.n, rows, columns):
            share *= side / (side + SMALL)
        return 2 * self.n * rows * columns / (self.machine.peak(dtype) * share)

    def matrices(self) -> float:
        c, t, dtype = self.c, self.layout.tensor, self.work.dtype
        queries, groups = c.num_attention_heads * c.head_dim // t, c.num_key_value_heads * c.head_dim // t
        hidden = c.intermediate_size // t
        sides = [(c.hidden_size, queries), (c.hidden_size, groups), (c.hidden_size, groups),
                 (queries, c.hidden_size), (c.hidden_size, hidden), (c.hidden_size, hidden),
                 (hidden, c.hidden_size)]  # fmt: skip
        return sum(self.product(*side, dtype) for side in sides)

    def attention(self) -> tuple[float, float]:
        """Forward and back. Back is five products where forward is two."""
        c = self.c
        text = min(self.work.text or self.work.sequence, self.work.sequence)
        flops = 4 * c.num_attention_heads // self.layout.tensor * c.head_dim * self.n * text / 2
        peak = self.machine.peak("bf16") * min(1.0, c.head_dim / 128)
        return flops / (peak * ATTENTION[0]), 2.5 * flops / (peak * ATTENTION[1])

    def traffic(self) -> float:
        """Norms, turns, gates and sums of one block, forward."""
        c, t = self.c, self.layout.tensor
        heads = (c.num_attention_heads + c.num_key_value_heads) * c.head_dim // t
        moved = 8 * self.s * c.hidden_size + self.n * (2 * heads + 3 * c.intermediate_size // t)
        times = 1.0 if self.layout.compile else EAGER
        return times * moved * self.e / (self.machine.bandwidth * MEMORY)

    def link(self, ranks: int, apart: int = 1) -> float:
        """Bytes a second that so many ranks, each so far `apart` from the next, gather or reduce with.

        Across nodes a ring has the network of as many GPUs as a node has of these ranks.
        """
        m = self.machine
        if ranks * apart <= m.node:
            return LINK * m.near
        return LINK * min(m.near, m.far * max(1, m.node // apart))

    def tensor(self) -> float:
        """One way: sequences are gathered and scattered twice."""
        t = self.layout.tensor
        return 4 * (t - 1) / t * self.n * self.c.hidden_size * self.e / self.link(t)

    def context(self) -> tuple[float, float]:
        """Keys and values gathered; on the way back their gradients reduced, wide."""
        c, t, context = self.c, self.layout.tensor, self.layout.context
        both = 2 * self.n * (context - 1) * (c.num_key_value_heads * c.head_dim // t)
        link = self.link(context, t)
        return both * self.e / link, both * WIDE / link

    def weights(self, part: Part, one: float) -> dict[str, float]:
        """What FSDP sends, as far as it takes longer than computing; one: seconds of one part of a batch."""
        layout = self.layout
        shares = layout.shard * layout.context
        if layout.ranks == 1:
            return {"weights links": 0.0}
        numbers = numbers_of(self.c, layout, part)
        link = self.link(shares, layout.tensor)
        once = (shares - 1) / shares * numbers
        gather, reduce = once * self.e / link, once * WIDE / link
        between = self.link(layout.replicate, layout.tensor * shares)
        reduce += 2 * (layout.replicate - 1) / layout.replicate * numbers / shares * WIDE / between
        first = gather / max(1, sum(part.layers))
        never = layout.reshard == "never" or (layout.reshard is None and layout.pipeline > 1)
        if never:
            late = max(0.0, gather - one / 3) + max(0.0, reduce - one * 2 / 3)
            if layout.pipeline == 1:
                late += (self.parts - 1) * max(0.0, gather - one / 3)
        else:
            late = self.parts * (max(0.0, gather - one / 3) + max(0.0, gather - one * 2 / 3))
            late += max(0.0, reduce + gather - one * 2 / 3) - max(0.0, gather - one * 2 / 3)
        return {"weights links": late + 2 * first}

    def update(self, part: Part) -> float:
        shares = self.layout.shard * self.layout.context
        numbers = numbers_of(self.c, self.layout, part) / shares
        return UPDATE * numbers / (self.machine.bandwidth * MEMORY)
