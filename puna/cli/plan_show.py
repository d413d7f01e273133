"""Plans as tables: few lines, every number with its unit."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from puna.cli.screen import clean
from puna.model.config import ModelConfig, parameters
from puna.parallel.layout import Layout
from puna.plan import counts
from puna.plan.cost import Cost
from puna.plan.layout_search import Choice
from puna.plan.machines import Gpu, room
from puna.plan.memory import Work
from puna.plan.published import Compared
from puna.plan.serving import Serving

if TYPE_CHECKING:
    from puna.train.dry_run import Tracked

GB = 1e9
SHORT = {"pipeline": "PP", "replicate": "copies", "shard": "FSDP", "context": "CP", "tensor": "TP"}


def show_choices(
    config: ModelConfig, machine: Gpu, work: Work, found: dict[str, Any], spent: Cost | None
) -> None:
    """Layouts, the best one's memory and time line by line, and what a run takes."""
    flops = [counts.training_flops(config, work.sequence, count) / 1e9 for count in ("causal", "full")]
    step = f"steps of {work.batch:,} sequences = {work.batch * work.sequence:,} tokens"
    _say(f"{parameters(config):,} parameters; {flops[0]:,.1f} GFLOP a token (causal; full {flops[1]:,.1f}) "
         f"at {work.sequence:,} tokens; {step}")  # fmt: skip
    choices: list[Choice] = found["choices"]
    if not choices:
        _say("no layout is legal")
    elif not found["fits"]:
        _say(f"does not fit: {choices[0].memory.total / GB:,.1f} GB a rank, {machine.name} has room for "
             f"{room(machine) / GB:,.1f} GB; the layout that comes nearest:")  # fmt: skip
    if choices:
        _show(_layouts(choices, machine))
        _show(_lines(choices[0]))
    for reason, count in found["reasons"][:5]:
        _say(f"  {count:,} layouts left out: {reason}")
    if spent:
        _say(_spent(spent, machine))


def _layouts(choices: list[Choice], machine: Gpu) -> Table:
    peak = choices[0].speed.peak / 1e12
    names = (
        "layout",
        "micro",
        "GB a rank",
        "s a step",
        "tokens/s",
        f"MFU of {peak:,.3g} TFLOP/s",
        "full count",
    )
    table = _table(*names)
    for choice in choices:
        speed = choice.speed
        table.add_row(
            layout_name(choice.layout), str(choice.work.micro), f"{choice.memory.total / GB:,.1f}",
            f"{speed.seconds:,.2f}", f"{speed.tokens / speed.seconds:,.0f}", f"{speed.mfu():.1%}",
            f"{speed.mfu('full'):.1%}",
        )  # fmt: skip
    return table


def _lines(choice: Choice) -> Table:
    """The first choice's memory beside its time."""
    table = _table(f"held at: {choice.memory.moment}", "GB", "a step", "seconds")
    held = sorted(choice.memory.terms.items(), key=lambda pair: -pair[1])
    took = sorted(((name, s) for name, s in choice.speed.lines.items() if s), key=lambda pair: -pair[1])
    for number in range(max(len(held), len(took))):
        left = (held[number][0], f"{held[number][1] / GB:,.2f}") if number < len(held) else ("", "")
        right = (took[number][0], f"{took[number][1]:,.3f}") if number < len(took) else ("", "")
        table.add_row(*left, *right)
    return table


def layout_name(layout: Layout) -> str:
    degrees = [
        f"{short} {getattr(layout, name):,}" for name, short in SHORT.items() if getattr(layout, name) > 1
    ]
    if layout.pipeline > 1:
        degrees.append(f"{layout.schedule} x {layout.stages_a_rank}")
    if layout.recompute != "none":
        degrees.append(f"recompute {layout.recompute}")
    if layout.pipeline == 1 and layout.reshard == "never":
        degrees.append("kept gathered")
    return ", ".join(degrees) or "one process"


def _spent(spent: Cost, machine: Gpu) -> str:
    energy = "" if spent.energy_kwh is None else f", {spent.energy_kwh:,.0f} kWh"
    money = "" if spent.money is None else f", {spent.money:,.0f} of your currency"
    days = f" = {spent.hours / 24:,.1f} days" if spent.hours > 48 else ""
    return (f"{spent.tokens:,.0f} tokens: {spent.hours:,.2f} hours{days}, "
            f"{spent.gpu_hours:,.2f} hours of {machine.name}{energy}{money}")  # fmt: skip


def show_serving(config: ModelConfig, machine: Gpu, rows: list[Serving], asked: Any) -> None:
    batch = asked.batch or 1
    _say(f"{parameters(config):,} parameters on {machine.name}: room for {room(machine) / GB:,.1f} GB each, "
         f"{machine.bandwidth / GB:,.0f} GB/s; {batch:,} texts of {asked.sequence:,} tokens, "
         f"{counts.kv_bytes(config):,} bytes a token")  # fmt: skip
    table = _table(
        "weights",
        "GB",
        "remembered GB",
        "fits",
        "tokens held at most",
        "writes tokens/s <",
        "reads tokens/s <",
    )
    for row in rows:
        writes = f"{row.writes:,.0f}" if row.writes >= 10 else f"{row.writes:.1f}"
        table.add_row(
            row.kind, f"{row.weights / GB:,.2f}", f"{row.remembered / GB:,.2f}", "yes" if row.fits else "no",
            f"{row.longest:,}", writes, f"{row.reads:,.0f}",
        )  # fmt: skip
    _show(table)


def show_published(rows: list[Compared]) -> None:
    """Every published figure beside ours; where they are far apart, what the published one would mean."""
    table = _table("run", "", "predicted", "published", "ratio")
    for row in rows:
        shown = "{:.1%}" if row.unit != "GPU-hours" else "{:,.0f}"
        table.add_row(
            row.what, row.unit, shown.format(row.predicted), shown.format(row.published), f"{row.ratio:.2f}"
        )
    _show(table)
    for row in rows:
        if abs(row.ratio - 1) > 0.1:
            lines = ", ".join(f"{name} {value:,.0f}" for name, value in row.lines.items())
            _say(f"{row.what}: {lines}")


def show_dry_run(config: ModelConfig, layout: Layout, stages: list["Tracked"]) -> None:
    _say(f"{parameters(config):,} parameters on {layout.ranks:,} pretended ranks: {layout_name(layout)}")
    table = _table("place in the pipeline", "layers", "tracked GB", "planned GB", "ratio", "seconds")
    for stage in stages:
        table.add_row(
            f"{stage.place + 1} of {layout.pipeline}", str(stage.layers), f"{stage.tracked / GB:,.2f}",
            f"{stage.planned / GB:,.2f}", f"{stage.planned / stage.tracked:.3f}", f"{stage.seconds:,.0f}",
        )  # fmt: skip
    _show(table)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(
            name, justify="left" if number == 0 or not name.strip() else "right", overflow="fold"
        )
    return table


def _say(text: str) -> None:
    print(clean(text))


def _show(table: Table) -> None:
    Console(width=None).print(table)
