"""Know before you spend: the tasks, bytes, partitions, memory and core-hours of a recipe, also on paper.

Rates are MB of text per core-second. They come with the package and are replaced by what the receipts of a
run say, so the plan for a crawl is best made from a run over a hundredth of it. Every document is taken to
stay to the end: the plan is an upper bound that a run undercuts.
"""

import json
from pathlib import Path
from typing import Any

from puna.data.map_step import Map
from puna.data.pipeline import receipts_of
from puna.data.place import at_once
from puna.data.recipe import Recipe
from puna.data.report import costs
from puna.data.round_steps import Emit, Reduce, Write
from puna.data.source import described, piece_bytes
from puna.data.steps import Step, steps_of
from puna.data.store import Store
from puna.settings import Settings

BASE_MB = 160  # of a worker: the interpreter, Arrow, NumPy


class Size(Settings):
    """How much there is to read, where it is not lying there to be measured."""

    documents: int
    text_bytes: int
    pieces: int


def rates(run: str | Path | Store | None = None) -> dict[str, Any]:
    """The rates of the package, with those that a run's receipts show in their place."""
    known = json.loads((Path(__file__).parent / "rates.json").read_text())
    if run is None:
        return known
    found: dict[str, float] = {}
    documents = exchanged = 0
    for step, facts in costs(receipts_of(run)).items():
        name, chained = step[3:], sum(facts["stage_s"].values())
        if step.endswith(".emit"):
            exchanged = facts["written"]
            _note(found, f"emit.{name.removesuffix('.emit')}", documents, facts["cpu_s"])
        elif facts["bytes"]:
            documents = facts["bytes"]
            for stage, seconds in facts["stage_s"].items():
                _note(found, stage, documents, seconds)
            _note(found, "source" if step.startswith("00-") else "shard", documents, facts["cpu_s"] - chained)
        else:
            _note(found, f"reduce.{name}", exchanged, facts["cpu_s"])
    packaged = {key: mb for key, mb in known["text_mb_s"].items() if not key.startswith("source.")}
    return known | {"text_mb_s": (packaged if found else known["text_mb_s"]) | found}


def _note(found: dict[str, float], name: str, size: int, seconds: float) -> None:
    if size and seconds > 0:
        found[name] = size / 1e6 / seconds


def measured_size(recipe: Recipe, known: dict[str, Any]) -> Size:
    """From the files that the sources name; of packed or marked-up files only a share is text."""
    pieces = [piece for source in recipe.sources for piece in source.inputs()]
    text = int(sum(at_once(piece_bytes, pieces)) * known["text_share"])
    return Size(documents=text // known["document_bytes"], text_bytes=text, pieces=len(pieces))


def plan(recipe: Recipe, size: Size | None = None, run: str | Path | Store | None = None) -> dict[str, Any]:
    """What a run will take: for each step, and in all."""
    known = rates(run)
    size = size or measured_size(recipe, known)
    shards = max(size.pieces, -(-size.text_bytes // recipe.shard_bytes))
    partitions = recipe.partitions_for(size.text_bytes)
    steps = [_step(one, recipe, size, known, (shards, partitions)) for one in steps_of(recipe)]
    return {
        "size": size.model_dump(),
        "shards": shards,
        "partitions": partitions,
        "steps": steps,
        "tasks": sum(step["tasks"] for step in steps),
        "core_hours": round(sum(step["core_hours"] for step in steps), 2),
        "disk_bytes": sum(step["writes"] for step in steps),
        "memory_mb_per_worker": max(step["memory_mb"] for step in steps),
    }


def _step(
    step: Step, recipe: Recipe, size: Size, known: dict[str, Any], counts: tuple[int, int]
) -> dict[str, Any]:
    text, exchanged = size.text_bytes, 0
    if isinstance(step, Emit | Reduce):
        rows = f"{step.removal.name}.{step.round.name}"
        exchanged = int(text * _longest(known["exchanged_share"], rows))
    if isinstance(step, Map):
        names = [stage.name for stage in step.stages]
        kind = "shard" if step.documents else f"source.{described(recipe.sources[0])['class'].lower()}"
        seconds = sum(text / 1e6 / _rate(known, name) for name in [*names, kind])
        tasks, writes = counts[0] if step.documents else size.pieces, text // 3  # zstd takes text to a third
        held = 4 * recipe.group_bytes
    elif isinstance(step, Emit):
        seconds = (exchanged if step.results else text) / 1e6 / _rate(known, f"emit.{rows}")
        tasks, writes = counts[1] if step.results else counts[0], exchanged
        held = 2 * min(recipe.shard_bytes, text)
    elif isinstance(step, Write):
        seconds = text / 1e6 / _rate(known, "write")
        tasks, writes = counts[1], text  # a token of four bytes is of about four letters
        held = 3 * min(recipe.partition_bytes, text)
    else:
        seconds = exchanged / 1e6 / _rate(known, f"reduce.{rows}")
        tasks, writes = counts[1], exchanged // 4
        held = 3 * min(recipe.reduce_bytes, exchanged)
    memory = BASE_MB + held // (1 << 20)
    facts = {"step": step.name, "tasks": tasks, "writes": writes, "memory_mb": memory}
    return facts | {"core_hours": round(seconds / 3600, 4)}


def _rate(known: dict[str, Any], name: str) -> float:
    return _longest(known["text_mb_s"], name)


def _longest(table: dict[str, float], name: str) -> float:
    """What a table says of the longest prefix of a name that it knows, in whole words."""
    words = name.split(".")
    prefixes = [".".join(words[:count]) for count in range(len(words), -1, -1)]
    return next(table[prefix] for prefix in prefixes if prefix in table)
