"""`puna plan`: what training or serving a model takes, before it is paid for."""

import dataclasses
import json as formats
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from puna import hub
from puna.cli.flags import Count
from puna.cli.plan_show import show_choices, show_dry_run, show_published, show_serving
from puna.errors import ConfigError, need
from puna.model.config import HERD, ModelConfig, parameters
from puna.model.look import describe
from puna.parallel.layout import Layout
from puna.plan import counts
from puna.plan.cost import cost
from puna.plan.layout_search import Choice, refused, search
from puna.plan.machines import GIGA, Gpu, gpu, room, this_machine
from puna.plan.memory import Work, memory
from puna.plan.published import compared
from puna.plan.serving import KINDS, serving
from puna.plan.speed import speed


@Parameter(name="*", group="Machine")
@dataclass(frozen=True, kw_only=True)
class Machines:
    """What it would run on."""

    gpus: Count = None
    """How many processors."""
    gpu: str | None = None
    """h100, h100-pcie, h200, a100 or b200; this machine, if neither this nor --gpus is given."""
    hbm: float | None = None
    """Memory of one in GB, if not its maker's."""
    price: float | None = None
    """Of one GPU for an hour, in your currency; without it no money is told."""
    pue: float = 1.1
    """Power of the building over that of its servers."""


@Parameter(name="*", group="Work")
@dataclass(frozen=True, kw_only=True)
class Training:
    """What a step of training does, or a server."""

    sequence: Annotated[int, Parameter(name=("--sequence", "--context"))] = 8192
    """Tokens of a sequence."""
    batch: Count = None
    """Sequences of a step (training: 16M tokens of them if not given), or texts at once (serving: 1)."""
    tokens: float | None = None
    """Tokens to train on, as 15e12."""
    dtype: str = "bf16"
    """What matrices are computed in: bf16, fp8 or fp32."""
    optimizer: str = "adamw"
    """adamw or muon."""
    layout: str | None = None
    """One layout instead of a search: tensor=8,pipeline=16,shard=64,schedule=interleaved,stages=8"""


def plan(
    model: str = "",
    /,
    *,
    machines: Machines = Machines(),
    training: Training = Training(),
    serve: bool = False,
    dry_run: bool = False,
    published: bool = False,
    json: bool = False,
) -> int:
    """Tell what training or serving a model takes: memory, layout, hours, energy, money.

    Parameters
    ----------
    model
        A published size (8b, 70b, 405b, 3.2-1b), a MODEL, or a recipe of training (.toml).
    serve
        What a machine can serve instead: which kinds of weights fit, and how fast at most.
    dry_run
        Build the model and its layout with as many pretended ranks, and compare what is held with the plan.
    published
        What the same sums say of runs whose cost was published.
    json
        One JSON object instead of tables.
    """
    if published:
        rows = compared()
        return _told(json, {"published": [dataclasses.asdict(row) for row in rows]}, show_published, rows)
    need(model, "no model", "puna plan 70b --gpus 256", ConfigError)
    config, given = _shape(model)
    machine = _machine(machines)
    if serve:
        rows = _served(config, machine, machines.gpus or 1, training)
        facts = {"machine": machine.name, "serving": [dataclasses.asdict(row) for row in rows]}
        return _told(json, facts, show_serving, config, machine, rows, training)
    work = _work(training, given, machines.gpus or 1, machine)
    if dry_run:
        need(training.layout or machines.gpus, "a dry run needs ranks", "--gpus 16384", ConfigError)
        return _dry_run(config, machine, work, machines.gpus or 1, training, json)
    ranks = machines.gpus or 1
    tokens = training.tokens or given.get("tokens")
    found = _found(config, machine, work, ranks, training)
    best = found["choices"][0] if found["choices"] else None
    spent = (
        cost(tokens, best.speed.tokens / best.speed.seconds, ranks, machine, machines.pue, machines.price)
        if best and tokens
        else None
    )
    facts = {
        "parameters": parameters(config),
        "flops_a_token": {
            count: counts.training_flops(config, work.sequence, count) for count in ("causal", "full")
        },
        "machine": machine.name,
        "choices": [_facts(choice) for choice in found["choices"]],
        "reasons": found["reasons"],
        "cost": dataclasses.asdict(spent) if spent else None,
    }
    return _told(json, facts, show_choices, config, machine, work, found, spent)


def _told(as_json: bool, facts: dict[str, Any], show: Any, *shown: Any) -> int:
    if as_json:
        print(formats.dumps(facts, ensure_ascii=False))
    else:
        show(*shown)
    return 0


def _shape(model: str) -> tuple[ModelConfig, dict[str, Any]]:
    """The model's numbers, and what a recipe says of the work."""
    if model.endswith(".toml"):
        return _recipe(Path(model))
    if model.lower() in HERD or f"3.1-{model.lower()}" in HERD or f"3.2-{model.lower()}" in HERD:
        return counts.herd(model), {}
    facts = describe(hub.find(model))
    need("config" in facts, f"{model}: a Meta folder does not say all of its sizes", "puna export it first")
    return ModelConfig.read(facts["config"], model), {}


def _recipe(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Of a recipe of training, read without what would train."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
    except ValueError as problem:
        raise ConfigError(f"{path}: not TOML: {problem}") from None
    need(
        "model" in said and said.get("stage"),
        f"{path}: no recipe of training",
        "see docs/train.md",
        ConfigError,
    )
    shape = said["model"]
    config = _shape(shape)[0] if isinstance(shape, str) else ModelConfig.read(shape, str(path))
    stages = said["stage"]
    longest = max(stages, key=lambda stage: stage["sequence"])
    given = {
        "sequence": longest["sequence"],
        "batch": longest["batch"],
        "micro": min(said.get("micro", 8), longest["batch"]),
        "dtype": said.get("dtype", "bf16"),
        "optimizer": said.get("optimizer", {}).get("kind", "adamw"),
        "tokens": sum(stage["tokens"] for stage in stages),
        "layout": said.get("layout", {}),
    }
    return config, given


def _machine(asked: Machines) -> Gpu:
    if asked.gpu is None and asked.gpus is None:
        return this_machine()
    machine = gpu(asked.gpu or "h100")
    return dataclasses.replace(machine, memory=asked.hbm * GIGA) if asked.hbm else machine


def _work(asked: Training, given: dict[str, Any], ranks: int, machine: Gpu) -> Work:
    sequence = given.get("sequence", asked.sequence)
    usual = max(1, 2**24 // sequence) if ranks > 1 else 8
    values = {
        "sequence": sequence,
        "batch": asked.batch or given.get("batch", usual),
        "micro": given.get("micro", 1),
        "dtype": given.get("dtype", asked.dtype),
        "optimizer": given.get("optimizer", asked.optimizer),
        "device": "cpu" if machine.near == 0 else "cuda",
    }
    return Work.read(values, "plan")


def _layout(text: str) -> Layout:
    """tensor=8,schedule=zbv"""
    pairs = [part.partition("=") for part in text.split(",")]
    need(all(sign for _, sign, _ in pairs), f"--layout {text}: not name=number, ...", error=ConfigError)
    return Layout.read({name.strip(): value.strip() for name, _, value in pairs}, "--layout")


def _found(config: ModelConfig, machine: Gpu, work: Work, ranks: int, asked: Training) -> dict[str, Any]:
    """{"choices": the best first, "reasons": why others do not do, "fits": whether the choices fit}"""
    if asked.layout or ranks == 1:
        layout = _layout(asked.layout) if asked.layout else Layout(compile=work.device == "cuda")
        need(
            layout.ranks == ranks,
            f"the layout has {layout.ranks:,} ranks, --gpus {ranks:,}",
            error=ConfigError,
        )
        why = refused(config, layout, work)
        need(not why, f"layout: {why}", error=ConfigError)
        only = Choice(layout, work, memory(config, layout, work), speed(config, layout, work, machine))
        return {"choices": [only], "reasons": [], "fits": only.memory.total <= room(machine)}
    found = search(config, work, machine, ranks)
    near = [found.nearest] if found.nearest else []
    return {
        "choices": list(found.fit[:8]) or near,
        "reasons": list(found.reasons),
        "fits": bool(found.fit),
    }


def _facts(choice: Choice) -> dict[str, Any]:
    return {
        "layout": choice.layout.model_dump(),
        "work": choice.work.model_dump(),
        "bytes": choice.memory.total,
        "moment": choice.memory.moment,
        "terms": choice.memory.terms,
        "seconds": choice.speed.seconds,
        "lines": choice.speed.lines,
        "tokens_a_second": choice.speed.tokens / choice.speed.seconds,
        "mfu": {count: choice.speed.mfu(count) for count in ("causal", "full")},
        "denominator_flops": choice.speed.peak,
    }


def _served(config: ModelConfig, machine: Gpu, gpus: int, asked: Training) -> list[Any]:
    kinds = [kind for kind in KINDS if kind != "fp8" or "fp8" in machine.flops]
    return [serving(config, kind, machine, asked.batch or 1, asked.sequence, gpus) for kind in kinds]


def _dry_run(
    config: ModelConfig, machine: Gpu, work: Work, ranks: int, asked: Training, as_json: bool
) -> int:  # fmt: skip
    from puna.train.dry_run import rehearse  # brings torch

    if asked.layout:
        choice = (_layout(asked.layout), work)
    else:
        found = search(config, work, machine, ranks)
        need(
            found.fit, f"no layout of {ranks:,} {machine.name} fits", "more --gpus, or --layout", ConfigError
        )
        choice = (found.fit[0].layout, found.fit[0].work)
    tracked = rehearse(config, *choice)
    facts = {"layout": choice[0].model_dump(), "stages": [dataclasses.asdict(stage) for stage in tracked]}
    return _told(as_json, facts, show_dry_run, config, choice[0], tracked)
