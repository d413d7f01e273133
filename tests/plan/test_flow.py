"""How a pipeline fills and drains is what PyTorch's own orders of work do, replayed action by action."""

import subprocess
import sys

import pytest

from puna.parallel.layout import Layout
from puna.plan.flow import bubble, in_flight

REPLAY = '''
import json, sys, warnings
warnings.filterwarnings("ignore")
import torch, torch.distributed as dist
from torch.distributed import pipelining
from torch.distributed.pipelining import schedules
from torch.testing._internal.distributed.fake_pg import FakeStore

CLASSES = {"interleaved": schedules.ScheduleInterleaved1F1B, "looped_bfs": schedules.ScheduleLoopedBFS,
           "interleaved_zero_bubble": schedules.ScheduleInterleavedZeroBubble,
           "zbv": schedules.ScheduleZBVZeroBubble, "dualpipev": schedules.ScheduleDualPipeV}
KINDS = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}

def actions(name, ranks, each, parts):
    """Of every rank, in order: (kind, stage, part)."""
    held = [0, 2 * ranks - 1] if name in ("zbv", "dualpipev") else range(0, ranks * each, ranks)
    meta = torch.empty(1, device="meta")
    stages = [pipelining.PipelineStage(torch.nn.Identity(), stage, ranks * each, torch.device("cpu"), meta, meta)
              for stage in held]
    order = CLASSES[name](stages, parts, loss_fn=lambda a, b: a.sum()).pipeline_order
    whole = [[one for action in order[rank] if action for one in (action.sub_actions or (action,))]
             for rank in range(ranks)]
    return [[(KINDS[a.computation_type.name], a.stage_index, a.microbatch_index) for a in rank] for rank in whole]

def waiting(rank):
    """Most parts between their forward pass and the end of their backward pass."""
    now = most = 0
    for kind, _, _ in rank:
        now += (kind == "F") - (kind in "BW")
        most = max(most, now)
    return most

def seconds(order, stages):
    """When the last rank is ready, a stage taking 1 forward and 2 back."""
    done, clock, place = {}, [0] * len(order), [0] * len(order)
    while any(place[rank] < len(order[rank]) for rank in range(len(order))):
        before = list(place)
        for rank, mine in enumerate(order):
            while place[rank] < len(mine):
                kind, stage, part = mine[place[rank]]
                needs = {"F": ("F", stage - 1, part) if stage else None, "W": None}.get(
                    kind, ("B", stage + 1, part) if stage + 1 < stages else ("F", stage, part))
                if needs and needs not in done:
                    break
                start = max(clock[rank], done.get(needs, 0))
                clock[rank] = start + (2 if kind == "B" else 1)
                done["B" if kind == "I" else kind, stage, part] = clock[rank]
                place[rank] += 1
        assert before != place, "the order of work waits for itself"
    return max(clock)

ranks = int(sys.argv[1])
dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
for name, each, parts in json.loads(sys.argv[2]):
    order = actions(name, ranks, each, parts)
    idle = seconds(order, ranks * each) / (3 * each * parts) - 1
    print(json.dumps([name, each, parts, [waiting(rank) for rank in order], idle]))
'''


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_what_waits_and_what_is_lost_is_what_pytorchs_orders_do(ranks):
    """gpipe and 1f1b have no order to replay; they are the same with one stage a rank."""
    import json

    cases = [
        (name, each, parts)
        for name, each in [("interleaved", 2), ("interleaved", 4), ("looped_bfs", 2),
                           ("interleaved_zero_bubble", 2), ("interleaved_zero_bubble", 4), ("zbv", 2), ("dualpipev", 2)]
        for parts in (ranks, 2 * ranks, 4 * ranks)
        if not (name == "dualpipev" and parts < 2 * ranks)
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, str(ranks), json.dumps(cases)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(found) == len(cases)
    for name, each, parts, waiting, idle in found:
        layout = Layout(pipeline=ranks, schedule=name, stages=each)
        assert [in_flight(layout, place, parts) for place in range(ranks)] == waiting, (name, each, parts)
        assert bubble(layout, parts) == pytest.approx(idle), (name, each, parts)


def test_without_a_pipeline_nothing_waits_and_nothing_is_lost():
    assert in_flight(Layout(), 0, 8) == 1 and bubble(Layout(), 8) == 0


def test_one_stage_a_rank_waits_and_idles_as_in_the_textbook():
    layout = Layout(pipeline=4, schedule="1f1b")
    assert [in_flight(layout, place, 16) for place in range(4)] == [4, 3, 2, 1]
    assert bubble(layout, 16) == 3 / 16
    assert in_flight(Layout(pipeline=4, schedule="gpipe"), 0, 16) == 16
