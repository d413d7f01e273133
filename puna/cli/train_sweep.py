"""`puna train sweep`: how large a model a budget is best spent on, from runs that a laptop can do."""

from pathlib import Path
from typing import TYPE_CHECKING

from puna.cli.data import print_table
from puna.cli.screen import clean
from puna.cli.train import Overrides
from puna.errors import ConfigError, need

if TYPE_CHECKING:
    from puna.train.ladder import Rung
    from puna.train.recipe import TrainRecipe
    from puna.train.sweep import Done


def sweep(
    recipe: Path,
    *overrides: Overrides,
    out: Path,
    budgets: str = "5e11,1e12,2e12,4e12",
    sizes: int = 5,
    predict: float | None = None,
    check: bool = False,
    dry_run: bool = False,
    threads: int | None = None,
) -> int:
    """Train several sizes on each of several budgets, and fit what size and how many tokens are best.

    Parameters
    ----------
    recipe
        Data, tokenizer, batch and learning rate; its model tells what is not size.
    overrides
        Settings in its place: --schedule.peak 1e-3
    out
        The folder of the sweep. What is done there is not done again.
    budgets
        FLOPs of a run, with commas between.
    sizes
        Of each budget.
    predict
        FLOPs of a larger run: what it will reach is written down before it is run.
    check
        Then run it, and tell how far off that was.
    dry_run
        Only tell what would be run.
    threads
        Threads of the CPU; every core we may use, if not given.
    """
    import torch

    from puna import hardware
    from puna.train.ladder import ladder
    from puna.train.recipe import read_recipe

    torch.set_num_threads(threads or hardware.cores())
    given, asked = read_recipe(recipe, overrides), _budgets(budgets)
    problem = f"{sizes} sizes of {len(asked)} budgets: a fit needs 3 of 2"
    need(sizes >= 3 and len(asked) >= 2, problem, "--sizes 5", ConfigError)
    need(not check or predict, "--check without a prediction", "--predict FLOPS --check", ConfigError)
    rungs = ladder(given, asked, sizes)
    if dry_run:
        head = ["FLOPs", "width x layers", "parameters", "tokens", "steps"]
        print_table(head, [[f"{one.budget:.3g}", f"{one.model.hidden_size} x {one.model.num_hidden_layers}",
                            one.parameters, one.tokens, one.steps] for one in rungs])  # fmt: skip
        print(f"{sum(one.flops for one in rungs):.3g} FLOPs in all")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    _told(given, _carried(given, rungs, out), out, predict, check)
    return 0


def _carried(recipe: "TrainRecipe", rungs: "list[Rung]", out: Path) -> "list[Done]":
    from puna.train.sweep import carry

    done: list[Done] = []
    for one in carry(recipe, rungs, out):
        done.append(one)
        left = sum(rung.flops for rung in rungs[len(done) :])
        speed = sum(run.flops for run in done) / max(sum(run.seconds for run in done), 1e-9)
        sizes = f"{one.width} x {one.layers}, {one.parameters:,} parameters, {one.tokens:,} tokens"
        said = f"{one.budget:.3g} FLOPs, {sizes}: {one.loss:.4f} nats a token, {one.seconds:,.0f} s"
        print(f"{len(done)} of {len(rungs)}: {said}; {left / speed / 60:,.0f} min left", flush=True)
    return done


def _told(recipe: "TrainRecipe", done: "list[Done]", out: Path, budget: float | None, checked: bool) -> None:
    """Fit, predict, check, and the page of it all."""
    from puna.plan.scaling import fit
    from puna.train import sweep as room
    from puna.train.sweep_page import sentences, write_page

    found = fit([one.point for one in done])
    room.write_sweep(out, done, found)
    said = room.predict(recipe, done, budget, out) if budget else room.read_prediction(out)
    write_page(out, done, found, said, None)
    for line in sentences(found, said, None):
        print(clean(line), flush=True)
    told = room.check(recipe, said, out) if said and checked else None
    if told:
        write_page(out, done, found, said, told)
        print(clean(sentences(found, said, told)[-1]))
    print(clean(str(out / "sweep.html")))


def _budgets(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        found = ()
    need(
        found and min(found) > 0, f"--budgets {text}: not numbers with commas between", "--budgets 1e12,2e12"
    )
    return found
