"""How the layers of a model fall into the stages of a pipeline, and the stages to its ranks. No torch: plans
read it.
"""


def split(layers: int, stages: int) -> list[range]:
    """The layers of each stage, in order; of all stages the first also embeds, the last also has the head.

    Embedding and head count as a layer each, so the first and the last stage hold one layer fewer [P 3.3.2];
    a stage may hold the embedding alone. What does not divide goes to the middle, and there to the later
    stages, which keep fewer parts of a batch between forward and backward.
    """
    least, more = divmod(layers + 2, stages)
    assert least, f"{layers} layers, an embedding and a head do not make {stages} stages"
    middle = list(range(stages - 2, 0, -1))
    ends = [0, stages - 1]
    first = ends + middle if least == 1 else middle + ends  # an end without a layer before a middle with two
    units = [least + (stage in first[:more]) for stage in range(stages)]
    units[0] -= 1
    units[-1] -= 1
    starts = [sum(units[:stage]) for stage in range(stages)]
    return [range(start, start + count) for start, count in zip(starts, units, strict=True)]


def owner(stage: int, ranks: int, vshaped: bool) -> int:
    """Which rank of the pipeline holds a stage: in turn, or down and up again."""
    turn, rank = divmod(stage, ranks)
    return ranks - 1 - rank if vshaped and turn % 2 else rank
