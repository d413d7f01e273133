"""`puna bench`: how fast a model is here, beside llama.cpp and beside what the machine could do."""

import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from puna import __version__, hardware, log
from puna.cli.progress import shown
from puna.errors import need
from puna.kernels.llama import Cache

if TYPE_CHECKING:
    from puna.engine.speed import Limits, Opening, Work

PEER = "llama_cpp"
Positive = Annotated[int, Parameter(validator=Number(gte=1))]
Several = Annotated[tuple[int, ...], Parameter(validator=Number(gte=1), consume_multiple=True)]


def bench(
    model: str = "smollm2",
    /,
    *,
    threads: Positive | None = None,
    rounds: Positive = 3,
    prefill: Several = (128, 512),
    together: Several = (2, 8),
    depth: Several = (1024,),
    alone: bool = False,
    cache: Cache = "bf16",
    out: Annotated[Path | None, Parameter(name="--json")] = None,
) -> int:
    """Measure a model: reading, writing, many at once, deep contexts, known prompts, opening, memory.

    In each round everything is done once by our engine and, where llama-cpp-python is installed and the model
    is a GGUF file, by llama.cpp: a ratio above 1 is in our favour. The last column says how much that is of
    what the memory (writing) or the multipliers (reading) of this machine gave in the same minute.

    Parameters
    ----------
    model
        A folder, a .gguf file, smollm2, or hf:org/name.
    threads
        Processor threads; all cores if not given.
    rounds
        How often; best and median are told.
    prefill
        Prompts of these lengths.
    together
        So many requests that write at once.
    depth
        Write after so many tokens of context.
    alone
        Leave llama.cpp out.
    cache
        What our keys and values are kept in; llama.cpp's stay in f16.
    out
        Write all figures here, as JSON.
    """
    from puna.engine.speed import opening, works

    _check_folder(out)
    threads = threads or hardware.cores()
    kinds = _kinds(model, alone, cache)
    with shown(sys.stderr, f"opening {model}"):
        opened = {name: opening(kind, model, threads) for name, kind in kinds.items()}
        context = max((*prefill, *depth)) + 128
        sides = [kind(model, threads, context, max(together, default=1)) for kind in kinds.values()]
    todo = works(prefill, together, depth)
    with shown(sys.stderr, f"measuring {model}:"), closing(sides[0]):
        rates, seen = _rounds(sides, todo, rounds, threads)
    rows = [_row(work, rates[work.name], seen, sides[0]) for work in todo]
    told = {"model": model, "threads": threads, "rounds": rounds, **_machine(seen), "work": rows}
    told |= {"cache": cache, "opening": {name: _opening(found) for name, found in opened.items()}}
    if out:
        out.write_text(json.dumps(told, indent=1) + "\n")
    print("\n".join(_lines(told)))
    return 0


def _kinds(model: str, alone: bool, cache: Cache) -> dict[str, Any]:
    """Who is measured, by name."""
    from puna import hub
    from puna.engine.peer import LlamaCpp
    from puna.engine.speed import Ours

    kinds: dict[str, Any] = {Ours.name: partial(Ours, cache=cache)}
    if not alone and find_spec(PEER) and hub.find(model).path.suffix == ".gguf":
        kinds[LlamaCpp.name] = LlamaCpp
    return kinds


def _check_folder(out: Path | None) -> None:
    """Before minutes of measuring."""
    there = out is None or out.absolute().parent.is_dir()
    need(there, f"--json {out}: there is no such folder", "a folder that exists")


def _rounds(
    sides: Sequence[Any], works: "Sequence[Work]", rounds: int, threads: int
) -> "tuple[dict[str, list[list[float]]], list[Limits]]":
    """Tokens a second by work, round and side, all in turns; and the machine's limits in each round."""
    from puna.engine.speed import limits, measure

    rates: dict[str, list[list[float]]] = {work.name: [] for work in works}
    seen = []
    for turn in range(rounds):
        seen.append(limits(threads))
        for number, work in enumerate(works):
            log.event("task", done=turn * len(works) + number, of=rounds * len(works), step=work.name)
            rates[work.name].append([measure(side, work, sides[0].config.vocab_size, turn) for side in sides])
    return rates, [now for now in seen if now]


def _row(work: "Work", rates: list[list[float]], seen: "list[Limits]", ours: Any) -> dict[str, Any]:
    sides = list(zip(*rates, strict=True))
    row: dict[str, Any] = {"work": work.name, "puna": _both(sides[0], 1)}
    if len(sides) > 1:
        best, middle = (of(sides[0]) / of(sides[1]) for of in (max, statistics.median))
        row |= {
            "llama.cpp": _both(sides[1], 1),
            "ratio": {"best": round(best, 2), "median": round(middle, 2)},
        }
    shares = [
        share for now, rate in zip(seen, sides[0], strict=False) if (share := now.share(ours, work, rate))
    ]
    return row | ({"share": round(statistics.median(shares), 2)} if shares else {})


def _opening(found: "Opening") -> dict[str, float]:
    return {"seconds": round(found.seconds, 2), "peak_mb": found.peak >> 20}


def _both(rates: Sequence[float], digits: int) -> dict[str, float]:
    return {"best": round(max(rates), digits), "median": round(statistics.median(rates), digits)}


def _machine(seen: "list[Limits]") -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "cpu": hardware.name(),
        "cores": hardware.cores(),
    }
    found["versions"] = {"puna": __version__, "llama-cpp-python": _version("llama-cpp-python")}
    if seen:
        found["bandwidth_gb_s"] = _both([now.bandwidth / 1e9 for now in seen], 1)
        found["int8_gops"] = _both([now.products / 1e9 for now in seen], 0)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lines(told: dict[str, Any]) -> list[str]:
    """The table, a line for each work."""
    peer = "llama.cpp" in told["opening"]
    about = f"{told['threads']} threads, {told['rounds']} rounds, a cache in {told['cache']}"
    lines = [f"{told['model']} on {told['cpu']}, {about}"]
    if "int8_gops" in told:
        memory, products = told["bandwidth_gb_s"]["median"], told["int8_gops"]["median"] / 1000
        lines.append(f"memory {memory:.1f} GB/s, {products:.2f} trillion operations on bytes a second")
    head = [
        "tokens/s, best / median",
        "puna",
        *(["llama.cpp", "ratio"] if peer else []),
        "share of the limit",
    ]
    table = [head]
    for row in told["work"]:
        cells = [row[name] for name in ("puna", "llama.cpp") if name in row]
        figures = [f"{cell['best']:,.1f} / {cell['median']:,.1f}" for cell in cells]
        ratio = [f"{row['ratio']['best']:.2f} / {row['ratio']['median']:.2f}"] if "ratio" in row else []
        table.append([row["work"], *figures, *ratio, f"{row['share']:.0%}" if "share" in row else ""])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    for name, opened in told["opening"].items():
        lines.append(f"{name}: opened in {opened['seconds']:.2f} s, {opened['peak_mb']:,} MB at most")
    return lines
