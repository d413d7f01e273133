"""`puna train report` and `puna train sample`: runs, whether they go on or not."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from puna.cli.data import print_json, print_table, shown_in_browser
from puna.cli.screen import clean
from puna.errors import need

if TYPE_CHECKING:
    from puna.train.history import History


def report(
    runs: Annotated[tuple[Path, ...], Parameter(negative=())],
    /,
    *,
    out: Path | None = None,
    png: Path | None = None,
    tensorboard: Path | None = None,
    watch: float = 0.0,
    open: bool = False,
    json: bool = False,
) -> int:
    """Draw the curves of runs, and tell how they ended and in what their recipes differ.

    Parameters
    ----------
    runs
        Folders of runs; they may be still going on.
    out
        The page; RUN/report.html of the first run, if not given.
    png
        Also a picture of the curves.
    tensorboard
        Also what TensorBoard reads, in this folder.
    watch
        Write it all again every so many seconds until every run has ended.
    open
        Show the page in a browser, where there is one.
    json
        One JSON object instead of tables: a row for each run.
    """
    from puna.train.history import differences, read_history, summary
    from puna.train.page import comparison

    need(runs, "no run is named", "puna train report RUN")
    place = out or runs[0] / "report.html"
    need(not place.is_dir(), f"--out {place}: is a folder", f"--out {place}/report.html")
    histories = [read_history(run) for run in runs]
    _written(histories, place, png, tensorboard, watch)
    if open:
        shown_in_browser(str(place))
    while watch and not all(run.is_whole for run in histories):
        time.sleep(watch)
        histories = [read_history(run) for run in runs]
        _written(histories, place, png, tensorboard, watch)
    rows = [summary(run) for run in histories]
    if json:
        return print_json({"page": str(place), "runs": rows, "differences": dict(differences(histories))})
    print_table(*comparison(rows))
    for name, values in differences(histories):
        print(clean(f"{name}: {'  '.join(map(str, values))}"))
    print(place)
    return 0


def _written(
    runs: "list[History]", place: Path, png: Path | None, tensorboard: Path | None, watch: float
) -> None:
    from puna.train.page import page

    going_on = watch and not all(run.is_whole for run in runs)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    part.write_text(page(runs, max(1, round(watch)) if going_on else None), encoding="utf-8")
    part.replace(place)
    if png:
        from puna.train.picture import picture

        picture(runs, png)
    if tensorboard:
        from puna.train.board import Board

        for run in runs:
            with Board(tensorboard / run.name) as board:
                for record in run.records:
                    board(record)


def sample(run: Path, text: str = "", /, *, tokens: int = 48, temperature: float = 0.0, seed: int = 0) -> int:
    """Let a run's newest weights go on with a text. The run may be going on meanwhile.

    Parameters
    ----------
    run
        The folder of the run.
    text
        How it begins.
    tokens
        How many at most.
    temperature
        0 takes the best token each time.
    seed
        The same seed draws the same.
    """
    from puna.train.history import read_history
    from puna.train.recipe import TrainRecipe
    from puna.train.sample import go_on, load_newest
    from puna.train.start import start

    recipe = TrainRecipe.read(read_history(run).recipe, str(run / "recipe.json"))
    made = start(recipe, run)
    step = load_newest(made)
    said = go_on(made.model, made.tokenizer, text, tokens, temperature, seed)
    print(clean(f"after {step:,} steps: {text}|{said}"))
    return 0
