"""How a pipeline fills and drains: how many parts of a batch wait in a rank, and which share of time is lost.

Counted in stages of equal length, backward twice as long as forward, half of it for the weights. A test
replays PyTorch's own orders of work and holds every line to them.
"""

from puna.parallel.layout import VSHAPED, Layout


def in_flight(layout: Layout, place: int, parts: int) -> int:
    """Parts of a batch times stages of this rank that wait between forward and backward, at most."""
    ranks, each, name = layout.pipeline, layout.stages_a_rank, layout.schedule
    every = parts * each
    if ranks == 1:
        return 1
    if name in ("gpipe", "looped_bfs"):
        return every
    if name == "1f1b":
        return min(every, ranks - place)
    if name == "interleaved":
        a_round = parts // max(1, parts // ranks)
        return min(every, (each - 1) * a_round + 2 * (ranks - 1 - place) + 1)
    if name == "interleaved_zero_bubble":
        return min(every, each * ranks)
    if name == "zbv":
        return min(every, 2 * ranks, parts + 1 + place)
    return min(every, 2 * ranks + 1)  # dualpipev


def bubble(layout: Layout, parts: int) -> float:
    """Time in which a rank has nothing to do, over the time of its work."""
    idle = (layout.pipeline - 1) / (layout.stages_a_rank * parts)
    if layout.schedule in VSHAPED and parts < 2 * layout.pipeline:
        return idle * 2 / 3
    split = (*VSHAPED, "interleaved_zero_bubble")  # gradients of weights fill two thirds of it
    return idle / 3 if layout.schedule in split else idle
