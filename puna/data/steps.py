"""A recipe becomes steps, a step becomes tasks, a task is a pure function of its inputs that writes files.

Between two steps there is a barrier: a step's tasks are known when the receipts of those before are there.
map_step.py has the step that reads and judges documents, round_steps.py those in which they meet.
"""

from puna.data.map_step import Map
from puna.data.recipe import Recipe
from puna.data.round_steps import Emit, Reduce, Write
from puna.data.rounds import Edit, Ending, Removal, Survey
from puna.data.stage import Stage
from puna.errors import DataError, need

Step = Map | Emit | Reduce | Write


def steps_of(recipe: Recipe) -> list[Step]:
    """The steps of a recipe, in order: chains are fused; what works in rounds takes two steps a round."""
    steps: list[Step] = []
    runs: list[tuple[Removal | Edit | Survey | None, list[Stage]]] = [(None, [])]
    endings = [stage for stage in recipe.stages if isinstance(stage, Ending)]
    last = recipe.stages[len(recipe.stages) - len(endings) :]
    problem = f"{', '.join(ending.name for ending in endings)}: what writes the files of a run comes last"
    need(list(last) == endings, problem, error=DataError)
    for stage in recipe.stages[: len(recipe.stages) - len(endings)]:
        if isinstance(stage, Removal | Edit | Survey):
            runs.append((stage, []))
        else:
            runs[-1][1].append(stage)
    documents = decisions = ""
    for removal, chained in runs:
        if removal:
            steps += _rounds(removal, documents, len(steps))
            decisions = steps[-1].name
        name = f"{len(steps):02d}-{removal.name if removal else 'read'}"
        steps.append(Map(name, tuple(chained), documents, removal, decisions))
        documents = name
    for ending in endings:
        for finish in ending.finishes():
            emit = f"{len(steps):02d}-{finish.name}.emit"
            steps.append(Emit(emit, ending, finish, documents))
            steps.append(Write(f"{len(steps):02d}-{finish.name}", ending, finish, documents, emit))
    return steps


def _rounds(stage: Removal | Edit | Survey, documents: str, start: int) -> list[Step]:
    steps: list[Step] = []
    results: dict[str, str] = {"documents": ""}
    rounds = stage.rounds()
    for round in rounds:
        emit = f"{start + len(steps):02d}-{stage.name}.{round.name}.emit"
        reduce = f"{start + len(steps) + 1:02d}-{stage.name}.{round.name}"
        side = results[round.side] if round.side else ""
        steps.append(Emit(emit, stage, round, documents, results[round.reads], side))
        last = round is rounds[-1]
        routed = (last and not isinstance(stage, Survey)) or round.name in {other.side for other in rounds}
        steps.append(Reduce(reduce, stage, round, documents, emit, routed, last))
        results[round.name] = reduce
    return steps
