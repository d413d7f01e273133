"""`puna train RECIPE --out RUN`: token shards become a model."""

import os
import signal
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
    ranks: int = 1,
    restarts: int = 0,
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
        Threads of the CPU for each rank; all the cores we may use, divided among them, if not given.
    ranks
        Processes on this machine that share the work. On a cluster torchrun starts them: see docs/train.md.
    restarts
        How often all ranks are started again after one failed.
    """
    if ranks > 1:
        from puna.parallel.launch import launch
        from puna.train.guard import STOPPED
        from puna.train.recipe import read_recipe

        read_recipe(recipe, overrides)  # a mistake is said once
        words = ["train", str(recipe), *overrides, "--out", str(out), "--every", str(every)]
        words += ["--steps", str(steps)] if steps else []
        words += ["--threads", str(threads)] if threads else []
        code = launch(ranks, restarts, ["-m", "puna.cli.main", *words])
        return STOPPED if code == 128 + signal.SIGTERM else code
    if "RANK" in os.environ:
        from puna.cli.rank import as_rank

        return as_rank(lambda: _train(recipe, overrides, out, steps, every, threads))
    return _train(recipe, overrides, out, steps, every, threads)


def _train(
    recipe: Path, overrides: tuple[str, ...], out: Path, steps: int | None, every: int, threads: int | None
) -> int:
    import torch

    from puna import hardware
    from puna.train.guard import STOPPED
    from puna.train.recipe import read_recipe
    from puna.train.start import carry_out, start

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, hardware.cores() // here))
    with listening(_told):
        run = start(read_recipe(recipe, overrides), out)
        first = run.world.rank == 0
        count = sum(master.numel() for master in run.optimizer.masters.values())
        if first:
            ranks = f" on {run.world.size:,} ranks" if run.world.size > 1 else ""
            print(clean(f"{run.recipe.name}: {count:,} parameters, {run.recipe.steps:,} steps{ranks}"))
        for step in carry_out(run, steps):
            if first and (step.step % every == 0 or step.skipped):
                rate = f"{step.tokens / step.seconds:,.0f} tokens/s"
                said = f"step {step.step:>7,}  loss {step.loss:.4f}  gradient {step.gradient:.3f}  {rate}"
                print(clean(f"{said}  left out: {step.skipped}" if step.skipped else said), flush=True)
    if first:
        _ended(run)
    return {"": 0, "SIGINT": 130}.get(run.stopped, STOPPED)


def _told(record: dict) -> None:
    """What happens beside the steps."""
    if record["event"] == "judged":
        found = ", ".join(f"{name} {bits:.3f}" for name, bits in record["bits_per_byte"].items())
        print(clean(f"held out after {record['step']:,} steps, bits a byte: {found}"), flush=True)
    elif record["event"] in ("resumed", "damaged") and os.environ.get("RANK", "0") == "0":
        print(clean(f"{record['event']}: {record['checkpoint']}"), file=sys.stderr)
    elif record["event"] == "hung":
        rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(f"puna: {rank}{record['why']}\n  what each thread does:", file=sys.stderr, flush=True)


def _ended(run: "Run") -> None:
    if run.stopped:
        print(f"{run.stopped}: saved after step {run.position.step:,}; the same command goes on from there")
        return
    whole = run.position.step == run.recipe.steps
    print(clean(str(run.folder / "model") if whole else f"stopped after step {run.position.step:,}"))
