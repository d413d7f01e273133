"""`puna data plan | run | report | explain | diff | verify | launch`: from raw pages to audited shards."""

import json as formats
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from puna.cli.progress import shown
from puna.cli.screen import clean
from puna.errors import DataError, need

if TYPE_CHECKING:
    from puna.data.recipe import Recipe
    from puna.data.runners import Runner

DAY_S = 86_400
Overrides = Annotated[str, Parameter(allow_leading_hyphen=True)]


def plan(
    recipe: Path,
    *overrides: Overrides,
    documents: int | None = None,
    text_gb: float | None = None,
    pieces: int | None = None,
    rates_of: Path | None = None,
    json: bool = False,
) -> int:
    """Tell what a run will take: tasks, bytes, memory, core-hours.

    Parameters
    ----------
    recipe
        The recipe, a TOML file.
    overrides
        Settings in its place: --quality.gopher.least_words 60
    documents
        On paper: how many documents, instead of what lies there.
    text_gb
        On paper: how much text, in GB.
    pieces
        On paper: how many files.
    rates_of
        A run whose measured rates are used.
    json
        One JSON object instead of a table.
    """
    _need_data()
    from puna.data.estimate import Size, rates
    from puna.data.estimate import plan as planned

    given = _recipe(recipe, overrides)
    size = None
    if documents is not None or text_gb is not None or pieces is not None:
        need(documents or text_gb, "a size on paper needs documents or text", "--documents 3_000_000_000")
        each = rates(rates_of)["document_bytes"]
        text = int(text_gb * 1e9) if text_gb else (documents or 0) * each
        size = Size(documents=documents or text // each, text_bytes=text, pieces=pieces or max(1, text >> 30))
    facts = planned(given, size, rates_of)
    if json:
        return _said(facts)
    rows = [[s["step"], s["tasks"], _size(s["writes"]), f"{s['memory_mb']:,} MB", f"{s['core_hours']:,.2f}"]
            for s in facts["steps"]]  # fmt: skip
    _table(["step", "tasks", "writes", "memory", "core-hours"], rows)
    print(f"{facts['size']['documents']:,} documents, {_size(facts['size']['text_bytes'])} of text:")
    said = f"{facts['tasks']:,} tasks, {facts['core_hours']:,.2f} core-hours"
    print(f"{said}, {_size(facts['disk_bytes'])} written")
    print(f"{facts['memory_mb_per_worker']:,} MB of memory a worker")
    return 0


def run(
    recipe: Path,
    *overrides: Overrides,
    out: str,
    runner: Literal["inline", "pool", "ray"] = "pool",
    workers: Annotated[int | None, Parameter(name=("--workers", "-j"))] = None,
    address: str | None = None,
    shard: str = "0/1",
    step: str | None = None,
) -> int:
    """Carry out a recipe. What is done already is not done again.

    Parameters
    ----------
    recipe
        The recipe, a TOML file.
    overrides
        Settings in its place: --quality.gopher.least_words 60
    out
        The folder of the run, here or in an object store.
    runner
        Who does the tasks: this process, a pool of processes, Ray.
    workers
        Processes of the pool; all cores if not given.
    address
        Ray's cluster; one on this machine if not given.
    shard
        i/N: only every N-th task, for Slurm arrays and Kubernetes jobs. Between steps it waits for the
        others, a day at most; with --step it does not.
    step
        Only this step.
    """
    _need_data()
    from puna.data.pipeline import run as carry_out

    given = _recipe(recipe, overrides)
    with shown(sys.stderr, f"data {given.name}"):
        hands = _runner(runner, workers, address)
        digest = carry_out(given, out, hands, _shard(shard), step, wait_s=0 if step else DAY_S)
    print(f"{out} {digest}")
    return 0


def report(out: str, /, *, json: bool = False) -> int:
    """Tell what a run kept and dropped, and why.

    Parameters
    ----------
    out
        The folder of the run.
    json
        One JSON object instead of a table.
    """
    _need_data()
    from puna.data.explain import report as found

    facts = found(out)
    if json:
        return _said(facts)
    rows = [[name, s["tasks"], s["rows_in"], s["rows_out"], _size(s["bytes"]), f"{s['cpu_s']:,.1f} s"]
            for name, s in facts["steps"].items()]  # fmt: skip
    _table(["step", "tasks", "in", "out", "text", "CPU"], rows)
    if facts["drops"]:
        print()
        _table(
            ["dropped for", "documents"], sorted(map(list, facts["drops"].items()), key=lambda row: -row[1])
        )
    return 0


def explain(out: str, wanted: str, /, *, json: bool = False) -> int:
    """Tell why a document was kept or dropped.

    Parameters
    ----------
    out
        The folder of the run.
    wanted
        The document's id (32 hex digits) or address.
    json
        One JSON object for each document of that name.
    """
    _need_data()
    from puna.data.explain import explain as found

    answers = found(out, wanted)
    need(answers, f"{out}: no document {wanted!r}", "its id, or its address as the source has it", DataError)
    for answer in answers:
        if json:
            _said(answer)
        else:
            print(
                clean("\n".join(f"{name:<8} {value}" for name, value in answer.items() if value is not None))
            )
    return 0


def diff(first: str, second: str, /) -> int:
    """Tell what two runs do differently, as one JSON object.

    Parameters
    ----------
    first
        The folder of a run.
    second
        The folder of another.
    """
    _need_data()
    from puna.data.explain import diff as found

    return _said(found(first, second))


def verify(out: str, /) -> int:
    """Hash every file of a run again; exit code 1 if one is not as it was written.

    Parameters
    ----------
    out
        The folder of the run.
    """
    _need_data()
    from puna.data.pipeline import verify as problems_of

    problems = problems_of(out)
    for problem in problems:
        print(clean(problem))
    if not problems:
        print(f"{out}: every file is as it was written")
    return 1 if problems else 0


def launch(
    recipe: Path,
    kind: Literal["slurm", "kubernetes", "ray"],
    /,
    *,
    out: str,
    shards: int = 1,
    image: str = "IMAGE",
) -> int:
    """Print a file that runs a recipe on a cluster, as an array of shards.

    Parameters
    ----------
    recipe
        The recipe, a TOML file that every node sees.
    kind
        The cluster's scheduler.
    out
        The folder of the run, that every node sees.
    shards
        How many tasks of the array; Ray needs none.
    image
        For Kubernetes: the container image that has Puna.
    """
    _need_data()
    from puna.data.runners import launch_text
    from puna.data.steps import steps_of

    steps = [step.name for step in steps_of(_recipe(recipe, ()))]
    print(launch_text(kind, str(recipe), out, steps, shards, image))
    return 0


def _recipe(path: Path, overrides: tuple[str, ...]) -> "Recipe":
    from puna.data.kinds import SOURCES, STAGES
    from puna.data.recipe import read_recipe

    return read_recipe(path, SOURCES, STAGES, overrides)


def _need_data() -> None:
    try:
        import fastwarc  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as missing:
        problem = f"the data room needs {missing.name}, which is not installed"
        fix = "pip install 'puna[data]', or -e '.[data]' in a checkout"
        raise DataError(f"{problem}\n  try: {fix}") from None


def _runner(kind: str, workers: int | None, address: str | None) -> "Runner":
    from puna.data.runners import Inline, OnRay, Pool
    from puna.hardware import cores

    if kind == "inline":
        return Inline()
    return OnRay(address) if kind == "ray" else Pool(workers or cores())


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    good = number.isdigit() and count.isdigit() and int(number) < int(count)
    need(good, f"--shard {text}: not of the form i/N with i below N", "--shard 0/8")
    return int(number), int(count)


def _said(facts: dict[str, Any]) -> int:
    print(formats.dumps(facts, ensure_ascii=False))
    return 0


def _table(head: list[str], rows: list[list[Any]]) -> None:
    """Names to the left, numbers to the right."""
    lines = [head, *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        first, *others = (cell.ljust(w) if i == 0 else cell.rjust(w)
                          for i, (cell, w) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
        print(clean("  ".join((first, *others))))


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    raise AssertionError
