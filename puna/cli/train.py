"""`puna train RECIPE --out RUN`: token shards become a model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from puna.cli.screen import clean
from puna.log import listening

if TYPE_CHECKING:
    from puna.train.run import Run

Overrides = Annotated[str, Parameter(allow_leading_hyphen=True)]


def train(
    recipe: Path,
    *overrides: Overrides,
    out: Path,
    steps: int | None = None,
    every: int = 10,
    threads: int | None = None,
) -> int:
    """Train a model from a recipe. Killed anywhere, it goes on from its last checkpoint.

    Parameters
    ----------
    recipe
        The recipe, a TOML file.
    overrides
        Settings in its place: --schedule.peak 1e-3
    out
        The folder of the run.
    steps
        Stop after this step, as if killed there.
    every
        A line on the screen every so many steps.
    threads
        Threads of the CPU; every core we may use, if not given.
    """
    import torch

    from puna import hardware
    from puna.train.recipe import read_recipe
    from puna.train.start import carry_out, start

    torch.set_num_threads(threads or hardware.cores())
    run = start(read_recipe(recipe, overrides), out)
    count = sum(master.numel() for master in run.optimizer.masters.values())
    print(clean(f"{run.recipe.name}: {count:,} parameters, {run.recipe.steps:,} steps"))
    with listening(_told):
        for step in carry_out(run, steps):
            if step.step % every == 0 or step.skipped:
                rate = f"{step.tokens / step.seconds:,.0f} tokens/s"
                said = f"step {step.step:>7,}  loss {step.loss:.4f}  gradient {step.gradient:.3f}  {rate}"
                print(clean(f"{said}  left out: {step.skipped}" if step.skipped else said), flush=True)
    _ended(run)
    return 0


def _told(record: dict) -> None:
    """What happens beside the steps."""
    if record["event"] == "judged":
        found = ", ".join(f"{name} {bits:.3f}" for name, bits in record["bits_per_byte"].items())
        print(clean(f"held out after {record['step']:,} steps, bits a byte: {found}"), flush=True)
    elif record["event"] in ("resumed", "damaged"):
        print(clean(f"{record['event']}: {record['checkpoint']}"), file=sys.stderr)


def _ended(run: "Run") -> None:
    whole = run.position.step == run.recipe.steps
    print(clean(str(run.folder / "model") if whole else f"stopped after step {run.position.step:,}"))
