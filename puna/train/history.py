"""What a run has told so far, read back from its folder: also while it goes on, and after a kill.

A record that was cut short is passed over, and so is an event that nobody here knows.
"""

import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from puna.errors import DataError, need

LAST = 20  # steps whose mean is called the end of a curve, or a tenth of a short run
Record = dict[str, Any]


@dataclass(frozen=True)
class History:
    """One run: its recipe as it was resolved, and its records."""

    folder: Path
    recipe: Record
    records: list[Record]

    @property
    def name(self) -> str:
        return self.folder.name or str(self.folder.resolve().name)

    @cached_property
    def steps(self) -> list[Record]:
        """One record for each step; of a step that was done twice the last."""
        found = {record["step"]: record for record in self.told("step")}
        tokens, steps = 0, []
        for number in sorted(found):
            tokens += found[number]["tokens"]
            steps.append(found[number] | {"all_tokens": tokens})
        return steps

    def told(self, event: str) -> list[Record]:
        return [record for record in self.records if record.get("event") == event]

    @property
    def planned(self) -> int | None:
        """How many steps it is meant to have, where it says so."""
        begun = self.told("begun")
        return begun[-1].get("steps") if begun else None

    @property
    def is_whole(self) -> bool:
        return (self.folder / "model" / "config.json").exists()

    def tokens_before(self, step: int) -> int:
        """Tokens that were trained on before a step."""
        return next((one["all_tokens"] for one in reversed(self.steps) if one["step"] < step), 0)

    def bits(self) -> dict[str, list[tuple[int, float]]]:
        """Bits a byte of what was held out, by set of data: (steps done, value)."""
        found: dict[str, list[tuple[int, float]]] = {}
        for record in self.told("judged"):
            weights = record.get("weights", "last")
            for name, value in record["bits_per_byte"].items():
                said = name if weights == "last" else f"{name}, {weights} of the weights"
                found.setdefault(said, []).append((record["step"], value))
        return found

    def use(self) -> list[tuple[int, float]]:
        """(step, share of the peak that the matrices of a step made use of), where a peak is known."""
        stretches = [one for one in self.told("begun") if one.get("peak_flops")]
        found = []
        for step in self.steps:
            about = next((one for one in reversed(stretches) if one["step"] <= step["step"]), None)
            cost = flops_at(about, step["step"]) if about else None
            if about and cost:
                found.append((step["step"], cost * step["tokens"] / step["seconds"] / about["peak_flops"]))
        return found


def measured(record: Record) -> dict[str, dict[str, float]]:
    """What an event "statistics" says: kind of number -> where it was measured -> value."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.items():
        if isinstance(value, float):
            found.setdefault(key, {})["whole"] = value
        for name, inner in value.items() if isinstance(value, dict) else ():
            numbers = inner.items() if isinstance(inner, dict) else [("", inner)]
            for what, number in numbers:
                # of a layer many kinds of numbers are told, of all else one kind in several places
                kind, place = (
                    (what, name) if key == "layers" else (f"{key} {name}" if what else key, what or name)
                )
                if isinstance(number, int | float):
                    found.setdefault(kind, {})[place] = float(number)
    found.pop("time", None)
    return found


def flops_at(about: Record, step: int) -> float | None:
    """FLOPs that a token of a step costs: they rise with the stages' sequence length."""
    return next((cost for first, cost in reversed(about.get("flops_per_token", ())) if first <= step), None)


def read_history(folder: Path) -> History:
    """A run's folder; DataError if it holds no log."""
    fix = "the folder that `puna train RECIPE --out RUN` wrote"
    log = folder / "log.jsonl"
    need(log.is_file(), f"{folder}: no log of a run here", fix, DataError)
    records = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # cut short by a kill, or just being written
            continue
        if isinstance(record, dict):
            records.append(record)
    return History(folder, _read(folder / "recipe.json"), records)


def _read(path: Path) -> Record:
    """A file of a run, if it is there and whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def summary(run: History) -> Record:
    """A run in one row: where it ended, its best, what it cost. None where nothing is known."""
    steps = run.steps
    bits = {name: values for name, values in run.bits().items() if values}
    use = [share for _, share in run.use()]
    end = steps[-max(1, min(LAST, len(steps) // 10)) :]
    losses = [step["loss"] for step in end if not step["skipped"]]
    return {
        "run": str(run.folder),
        "name": run.name,
        "state": _state(run),
        "steps": len(steps),
        "planned": run.planned,
        "tokens": steps[-1]["all_tokens"] if steps else 0,
        "loss": statistics.fmean(losses) if losses else None,
        "bits_per_byte": {name: values[-1][1] for name, values in bits.items()},
        "best_bits_per_byte": {name: min(value for _, value in values) for name, values in bits.items()},
        "best_step": {name: min(values, key=lambda one: one[1])[0] for name, values in bits.items()},
        "gradient": _middle([step["gradient"] for step in steps]),
        "tokens_s": _middle([step["tokens"] / step["seconds"] for step in steps]),
        "use": _middle(use),
        "memory": max((step.get("memory", 0) for step in steps), default=0) or None,
        "skipped": sum(bool(step["skipped"]) for step in steps),
        "seconds": sum(step["seconds"] for step in steps),
        "goodput": _read(run.folder / "time.json").get("goodput"),
        "data_share": sum(step["data_s"] for step in steps) / max(sum(s["seconds"] for s in steps), 1e-9),
    }


def _state(run: History) -> str:
    if run.is_whole:
        return "finished"
    return "at its end" if run.planned and len(run.steps) >= run.planned else "not finished"


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def differences(runs: list[History]) -> list[tuple[str, list[Any]]]:
    """(setting, its value in each run), of those in which the runs' recipes differ."""
    flat = [dict(_flat(run.recipe)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, [one.get(name) for one in flat]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        items = ((str(number), one) for number, one in enumerate(value, 1))
    else:
        return [(name, value)]
    return [row for key, one in items for row in _flat(one, f"{name}.{key}" if name else str(key))]
