"""Which steps of a run belong to which stage of its recipe: people think in stages, the engine in steps.

Stages that need no others are chained in one step that reads and writes documents (a map); one for which
documents meet has a step for every half of a round, then a map of its own; an ending has steps and no map.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any

from puna.data.store import Store


@dataclass
class Line:
    """One stage of a recipe, as a run carried it out."""

    stage: str  # its name; "" is the reading of the sources
    map: str  # the step that tells what it kept and dropped; "" for an ending
    steps: list[str] = field(default_factory=list)  # that it has for itself; the map among them
    settings: list[dict[str, Any]] = field(default_factory=list)  # several where it stands there twice

    @property
    def is_ending(self) -> bool:
        return not self.map


def read_run(store: Store) -> dict[str, Any]:
    """What run.json says: the recipe as it was resolved, and the names of the steps."""
    store.need_run()
    found: dict[str, Any] = json.loads(store.read("run.json") or b"{}")
    return found


def outline(run: dict[str, Any]) -> list[Line]:
    """The stages in their order, the reading first."""
    steps = list(run["steps"])
    lines = [Line("", steps[0], [steps.pop(0)])]
    for settings in run["stages"]:
        name = settings["name"]
        own = list(takewhile(partial(_is_of, name), steps))
        if own:
            bare = [_bare(step) for step in own]
            own = own[: bare.index(name) + 1] if name in bare else own
            steps = steps[len(own) :]
            ending = name not in bare or bare[0] == f"{name}.emit"  # a round's would name the round
            lines.append(Line(name, "" if ending else own[-1], own, [settings]))
            continue
        at = [line.map for line in lines if line.map][-1]
        again = next((line for line in lines if line.map == at and line.stage == name), None)
        if again:
            again.settings.append(settings)
        else:
            lines.append(Line(name, at, [], [settings]))
    return lines


def _is_of(stage: str, step: str) -> bool:
    return f"{_bare(step)}.".startswith(f"{stage}.")


def _bare(step: str) -> str:
    """A step's name without its number."""
    return step.partition("-")[2]
