"""What a run shows of itself, all of it from its records: a live line on a terminal, lines elsewhere, the
records themselves for a program, nothing if asked.
"""

import json as formats
import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from puna.cli.screen import can_move, clean
from puna.log import listening
from puna.train.history import flops_at

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puna.train.recipe import TrainRecipe

RECENT = 20  # steps whose mean speed is told
Record = dict[str, Any]


@Parameter(name="*", group="Showing")
@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is shown while it trains."""

    every: int = 10
    """Where no terminal is: a line every so many steps."""
    quiet: bool = False
    """Only mistakes."""
    json: bool = False
    """One JSON object for each record, on stdout."""
    peak: bool = False
    """Measure how fast this machine multiplies matrices, and tell MFU against that."""


@contextmanager
def shown(showing: Showing, recipe: "TrainRecipe") -> Iterator[None]:
    """Show the events of a run while the block lasts."""
    so_far = SoFar(recipe.stage[-1].weights)
    if showing.json or showing.quiet:
        with listening(_record if showing.json else _problem):
            yield
    elif can_move(sys.stdout):
        with _live(so_far, recipe.name) as tell, listening(tell):
            yield
    else:
        with listening(_lines(so_far, recipe.name, showing.every)):
            yield


class SoFar:
    """What the records say together: speed, share of the peak, time that is left."""

    def __init__(self, shares: dict[str, float]):
        self.shares, self.about, self.judged, self.skipped = shares, {}, {}, 0
        self.recent: deque[Record] = deque(maxlen=RECENT)

    def take(self, record: Record) -> None:
        if record["event"] == "begun":
            self.about = record
        elif record["event"] == "judged" and record.get("weights", "last") == "last":
            self.judged = record
        elif record["event"] == "step":
            self.recent.append(record)
            self.skipped += bool(record["skipped"])

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return sum(one["tokens"] for one in self.recent) / sum(one["seconds"] for one in self.recent)

    @property
    def use(self) -> float | None:
        """Of the machine's peak."""
        cost, peak = flops_at(self.about, self.recent[-1]["step"]), self.about.get("peak_flops")
        return cost * self.speed / peak if cost and peak else None

    @property
    def left_s(self) -> float:
        each = sum(one["seconds"] for one in self.recent) / len(self.recent)
        return each * (self.about.get("steps", 0) - self.recent[-1]["step"] - 1)

    @property
    def bits(self) -> tuple[float | None, float | None]:
        """Bits a byte: of this step's text, a token of it as long as those that were judged; and of these."""
        found, losses = self.judged.get("bits_per_byte", {}), self.judged.get("loss", {})
        weights = {name: self.shares.get(name, 0.0) for name in found}
        whole = sum(weights.values())
        if not whole or not self.recent:
            return None, None
        held = sum(found[name] * share for name, share in weights.items()) / whole
        nats = sum(losses[name] * share for name, share in weights.items()) / whole
        return self.recent[-1]["loss"] * held / nats if nats else None, held


def step_line(record: Record) -> str:
    rate = f"{record['tokens_s']:,.0f} tokens/s"
    said = f"step {record['step']:>7,}  loss {record['loss']:.4f}  gradient {record['gradient']:.3f}  {rate}"
    return f"{said}  left out: {record['skipped']}" if record["skipped"] else said


def other_line(record: Record, name: str) -> str | None:
    """What happens beside the steps, in a line; None of what is not for people."""
    if record["event"] == "judged":
        found = ", ".join(f"{name} {bits:.3f}" for name, bits in record["bits_per_byte"].items())
        mean = "" if record.get("weights", "last") == "last" else f", {record['weights']} of the weights"
        return f"held out after {record['step']:,} steps{mean}, bits a byte: {found}"
    if record["event"] == "rewound":
        first, last = record["left_out"]
        return f"the loss rose: back to {record['checkpoint']}, batches {first:,} to {last:,} are left out"
    if record["event"] == "sample":
        return f"after {record['step']:,} steps: {record['prompt']}|{record['text']}"
    if record["event"] == "begun":
        peak = record["peak_flops"]
        mfu = f"MFU is of {peak / 1e12:,.4g} TFLOP/s ({record['peak_of']})" if peak else ""
        start = f"{name}: {record['parameters']:,} parameters, {record['steps']:,} steps"
        return f"{start}; {mfu}" if mfu else start
    if record["event"] == "profiled":
        return f"steps {record['first']:,} to {record['last']:,} are traced: {record['path']}"
    return None


def _problem(record: Record) -> None:
    if record["event"] in ("resumed", "damaged"):
        print(clean(f"{record['event']}: {record['checkpoint']}"), file=sys.stderr)


def _record(record: Record) -> None:
    print(formats.dumps(record), flush=True)


def _lines(so_far: SoFar, name: str, every: int) -> Callable[[Record], None]:
    def tell(record: Record) -> None:
        so_far.take(record)
        _problem(record)
        if record["event"] == "step":
            if record["step"] % every == 0 or record["skipped"]:
                use = f"  MFU {so_far.use:.1%}" if so_far.use else ""
                print(clean(step_line(record) + use), flush=True)
        elif said := other_line(record, name):
            print(clean(said), flush=True)

    return tell


@contextmanager
def _live(so_far: SoFar, name: str) -> Iterator[Callable[[Record], None]]:
    from rich.console import Console
    from rich.live import Live

    screen = Console(file=sys.stdout, highlight=False)
    with Live(console=screen, refresh_per_second=8, transient=False) as live:

        def tell(record: Record) -> None:
            so_far.take(record)
            if record["event"] == "step":
                if record["skipped"]:
                    screen.print(clean(step_line(record)), markup=False)
                live.update(_picture(so_far))
            elif said := other_line(record, name):
                screen.print(clean(said), markup=False)
            elif record["event"] in ("resumed", "damaged"):
                screen.print(clean(f"{record['event']}: {record['checkpoint']}"), markup=False)

        yield tell


def _picture(so_far: SoFar) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    last, steps = so_far.recent[-1], so_far.about.get("steps", 0)
    running, held = so_far.bits
    values = [
        ("loss", f"{last['loss']:.4f}"),
        ("bits/byte", f"{running:.3f}" if running else None),
        ("held out", f"{held:.3f}" if held else None),
        ("gradient", f"{last['gradient']:.3g}"),
        ("rate", f"{last['rate']:.2e}"),
        ("tokens/s", f"{so_far.speed:,.0f}"),
        ("MFU", f"{so_far.use:.1%}" if so_far.use else None),
        ("memory", f"{last['memory'] / 2**30:.2f} GiB"),
        ("left out", f"{so_far.skipped:,}" if so_far.skipped else None),
    ]
    shown = [Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in values if value]
    line = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        line.add_column(ratio=ratio)
    done = last["step"] + 1
    line.add_row(
        f"step {done:,} of {steps:,}", ProgressBar(steps or 1, done), f"{_clock(so_far.left_s)} left"
    )
    return Group(line, Text("  ").join(shown))


def _clock(seconds: float) -> str:
    whole = math.ceil(max(0.0, seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
