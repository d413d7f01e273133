"""`puna data plan | run | report | explain | diff | verify | launch`: from raw pages to audited shards."""

import json as formats
import os
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
    need_data()
    from puna.cli.data_lines import size
    from puna.data.estimate import Size, rates
    from puna.data.estimate import plan as planned

    given = _recipe(recipe, overrides)
    on_paper = None
    if documents is not None or text_gb is not None or pieces is not None:
        need(documents or text_gb, "a size on paper needs documents or text", "--documents 3_000_000_000")
        each = rates(rates_of)["document_bytes"]
        text = int(text_gb * 1e9) if text_gb else (documents or 0) * each
        on_paper = Size(
            documents=documents or text // each, text_bytes=text, pieces=pieces or max(1, text >> 30)
        )
    facts = planned(given, on_paper, rates_of)
    if json:
        return print_json(facts)
    rows = [[s["step"], s["tasks"], size(s["writes"]), f"{s['memory_mb']:,} MB", f"{s['core_hours']:,.2f}"]
            for s in facts["steps"]]  # fmt: skip
    print_table(["step", "tasks", "writes", "memory", "core-hours"], rows)
    print(f"{facts['size']['documents']:,} documents, {size(facts['size']['text_bytes'])} of text:")
    said = f"{facts['tasks']:,} tasks, {facts['core_hours']:,.2f} core-hours"
    print(f"{said}, {size(facts['disk_bytes'])} written")
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
    need_data()
    from puna.data.pipeline import run as carry_out

    given = _recipe(recipe, overrides)
    with shown(sys.stderr, f"data {given.name}"):
        hands = _runner(runner, workers, address)
        digest = carry_out(given, out, hands, _shard(shard), step, wait_s=0 if step else DAY_S)
    print(f"{out} {digest}")
    return 0


def report(
    out: str, /, *, json: bool = False, html: Path | None = None, open: bool = False, domains: int = 50
) -> int:
    """Tell what a run kept and dropped, and why.

    Parameters
    ----------
    out
        The folder of the run.
    json
        One JSON object instead of tables.
    html
        Write it as one page with samples and plots; without a script, nothing is fetched.
    open
        Show the page in a browser, where there is one; it is RUN/report.html if --html names no other.
    domains
        How many domains are told apart.
    """
    need_data()
    from puna.cli.data_lines import report_lines
    from puna.data.report import report as found

    need(domains > 0, f"--domains {domains}: at least one", "--domains 50")
    need(html is None or not html.is_dir(), f"--html {html}: is a folder", f"--html {html}/report.html")
    facts = found(out, domains)
    place = _page(out, html, facts) if html or open else None
    if json:
        print_json(facts)
    else:
        print(clean("\n".join(report_lines(facts))))
        if place:
            print(f"\n{place}")
    if open and place:
        shown_in_browser(place)
    return 0


def _page(out: str, html: Path | None, facts: dict[str, Any]) -> str:
    """Writes the page, whole or not at all: where it is."""
    from puna.data.page.page import page
    from puna.data.samples import samples
    from puna.data.store import Store

    text = page(facts, samples(out), out)
    store = Store.at(html.resolve().parent if html else out)
    store.put(html.name if html else "report.html", text.encode())
    return str(html) if html else f"{out.rstrip('/')}/report.html"


def shown_in_browser(place: str) -> None:
    """Where there is no browser, nothing happens: the page is written, that is what counts."""
    import webbrowser

    if sys.platform == "linux" and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return  # else a browser for terminals would take this one
    address = place if "://" in place else Path(place).resolve().as_uri()
    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return


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
    need_data()
    from puna.cli.data_lines import fate_lines
    from puna.data.explain import explain as found
    from puna.data.explain import left_out

    answers = found(out, wanted)
    if not answers:
        counts = left_out(out)
        named = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
        unnamed = f"; {sum(counts.values()):,} were left out unnamed while reading: {named}" if counts else ""
        problem = f"{out}: no document {wanted!r}{unnamed}"
        raise DataError(f"{problem}\n  try: its id, or its address as the source has it")
    for number, answer in enumerate(answers):
        if json:
            print_json(answer)
        else:
            print(("\n" if number else "") + clean("\n".join(fate_lines(answer))))
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
    need_data()
    from puna.data.explain import diff as found

    return print_json(found(first, second))


def verify(out: str, /) -> int:
    """Hash every file of a run again; exit code 1 if one is not as it was written.

    Parameters
    ----------
    out
        The folder of the run.
    """
    need_data()
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
    need_data()
    from puna.data.runners import launch_text
    from puna.data.steps import steps_of

    steps = [step.name for step in steps_of(_recipe(recipe, ()))]
    print(launch_text(kind, str(recipe), out, steps, shards, image))
    return 0


def _recipe(path: Path, overrides: tuple[str, ...]) -> "Recipe":
    from puna.data.kinds import SOURCES, STAGES
    from puna.data.recipe import read_recipe

    return read_recipe(path, SOURCES, STAGES, overrides)


def need_data() -> None:
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


def print_json(facts: dict[str, Any]) -> int:
    print(formats.dumps(facts, ensure_ascii=False))
    return 0


def print_table(head: list[str], rows: list[list[Any]]) -> None:
    """Names to the left, numbers to the right."""
    from puna.cli.data_lines import table_lines

    print(clean("\n".join(table_lines(head, rows))))
