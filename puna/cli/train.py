"""`puna train RECIPE --out RUN`: token shards become a model. Its sub-commands look at runs."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from puna.cli.screen import clean
from puna.cli.train_show import Showing, shown
from puna.errors import need
from puna.log import listening

if TYPE_CHECKING:
    from puna.train.recipe import TrainRecipe
    from puna.train.run import Run
    from puna.train.step import Step

Overrides = Annotated[str, Parameter(allow_leading_hyphen=True)]
FURTHER = {  # name: (the function, what it does, examples)
    "report": (
        "train_runs:report",
        "Draw the curves of runs and tell how they differ.",
        "puna train report nano\npuna train report nano other --out both.html --open",
    ),
    "sample": (
        "train_runs:sample",
        "Let a run's newest weights go on with a text.",
        'puna train sample nano "The lake"',
    ),
    "launch": (
        "train_launch:launch",
        "Print a file that starts a run on a cluster.",
        "puna train launch nano.toml --on slurm --out /shared/run --nodes 4 > train.sbatch",
    ),
    "sweep": (
        "train_sweep:sweep",
        "Find how large a model a budget of compute is best spent on.",
        "puna train sweep nano.toml --out sweep --dry-run\n"
        "puna train sweep nano.toml --out sweep --budgets 5e11,1e12,2e12,4e12 --predict 1e13 --check",
    ),
}


@Parameter(name="*", group="Processes")
@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many share the work."""

    ranks: int = 1
    """Processes on this machine. On a cluster torchrun starts them: see docs/train.md."""
    restarts: int = 0
    """How often all ranks are started again after one failed."""


def _examples(lines: str) -> str:
    return "For example:\n  " + lines.replace("\n", "\n  ")


app = App(name="train", help_epilogue=_examples(
    "puna train nano.toml --out nano\npuna train nano.toml --out nano --schedule.peak 1e-3"))  # fmt: skip
for _name, (_function, _what, _lines) in FURTHER.items():
    app.command(f"puna.cli.{_function}", name=_name, help=_what, help_epilogue=_examples(_lines))


@app.default
def train(
    recipe: Path,
    *overrides: Overrides,
    out: Path,
    steps: int | None = None,
    threads: int | None = None,
    processes: Processes = Processes(),
    sample: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)] = (),
    profile: str | None = None,
    showing: Showing = Showing(),  # noqa: B008 (frozen)
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
    threads
        Threads of the CPU for each rank; all the cores we may use, divided among them, if not given.
    sample
        A text that the model goes on with every sample_every steps; may be repeated.
    profile
        FIRST:LAST, these steps are traced: RUN/profile gets a trace for Chrome and a table.
    """
    from puna.train.recipe import read_recipe

    given = read_recipe(recipe, overrides)
    if processes.ranks > 1 and "RANK" not in os.environ:
        from puna.parallel.launch import launch
        from puna.train.guard import STOPPED

        code = launch(
            processes.ranks, processes.restarts, ["-m", "puna.cli.main", *sys.argv[1:]]
        )  # each of them is a rank
        return STOPPED if code == 128 + signal.SIGTERM else code
    if sample:
        given = given.model_copy(update={"samples": sample})
    window = _window(profile) if profile else None
    if "RANK" in os.environ:
        from puna.cli.rank import as_rank

        showing = showing if os.environ["RANK"] == "0" else replace(showing, quiet=True, json=False)
        return as_rank(lambda: _train(given, out, steps, threads, window, showing))
    return _train(given, out, steps, threads, window, showing)


def _train(
    recipe: "TrainRecipe",
    out: Path,
    steps: int | None,
    threads: int | None,
    window: tuple[int, int] | None,
    showing: Showing,
) -> int:
    import torch

    from puna import hardware
    from puna.train.guard import STOPPED
    from puna.train.speed import about
    from puna.train.start import start

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, hardware.cores() // here))
    hardware.keep_memory()
    with shown(showing, recipe), _on_board(recipe, out), listening(_hung):
        run = start(recipe, out)
        run.about = about(run, showing.peak)
        for _ in _work(run, steps, window):
            pass
    if not (showing.quiet or showing.json):
        _ended(run)
    return {"": 0, "SIGINT": 130}.get(run.stopped, STOPPED)


def _hung(record: dict) -> None:
    if record["event"] == "hung":
        rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(f"puna: {rank}{record['why']}\n  what each thread does:", file=sys.stderr, flush=True)


def _ended(run: "Run") -> None:
    if run.stopped:
        print(f"{run.stopped}: saved after step {run.position.step:,}; the same command goes on from there")
        return
    whole = run.position.step == run.recipe.steps
    print(clean(str(run.folder / "model") if whole else f"stopped after step {run.position.step:,}"))


def _work(run: "Run", until: int | None, window: tuple[int, int] | None) -> Iterator["Step"]:
    """The steps that are left, with what is to be done beside them."""
    from puna.train.profile import profiled
    from puna.train.sample import sampled
    from puna.train.start import carry_out

    steps = sampled(run, carry_out(run, until))
    return profiled(steps, *window, run.folder / "profile") if window else steps


@contextmanager
def _on_board(recipe: "TrainRecipe", out: Path) -> Iterator[None]:
    if not recipe.tensorboard or os.environ.get("RANK", "0") != "0":
        yield
        return
    from puna.train.board import Board

    with Board(out / "tensorboard") as board, listening(board):
        yield


def _window(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    good = first.isdigit() and last.isdigit() and int(first) <= int(last)
    need(good, f"--profile {text}: not of the form FIRST:LAST", "--profile 10:13")
    return int(first), int(last)
