"""The scheduler: everyone gets what it would get alone, in a bounded number of steps, in the right order."""

from dataclasses import dataclass, field

import numpy as np
from hash_runner import HashRunner, logits_after
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.engine import scheduler as scheduler_file
from puna.engine.pages import Pages
from puna.engine.scheduler import FEWEST, Scheduler, Work, marks, next_rows, shares

PAGE = 4


def alone(ids, count):
    """What the hash writes after these ids."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits_after(ids).argmax()))
    return ids


@dataclass
class World:
    """A scheduler over a runner that is a hash, moved by hand."""

    pages: Pages
    rows: int = 32
    together: int = 4
    prompt_rows: int = 32
    ends: dict = field(default_factory=dict)  # work -> how long it gets
    trace: list = field(default_factory=list)  # of each step {name: rows}

    def __post_init__(self):
        self.runner = HashRunner(self.pages.count, self.pages.size)
        self.scheduler = Scheduler(self.pages, self.rows, self.together)

    def add(self, name, ids, count=1, priority=0, scored=None):
        work = Work(name, list(ids), priority, scored)
        self.ends[work] = len(ids) + count
        self.scheduler.add(work)
        return work

    def step(self):
        """One step; false when there is nothing to do."""
        plan = self.scheduler.plan(self.prompt_rows)
        if plan is None:
            assert not self.scheduler.waiting and not self.scheduler.running
            return False
        assert len(plan.step.tokens) <= self.rows and plan.prompt_rows <= self.prompt_rows
        ready = {work for work in self.scheduler.running if work.unread == 1}
        assert ready <= {part.work for part in plan.parts}, "whoever writes is in every step"
        for _, source, target in plan.copies:
            self.runner.copy(source, target)
        logits = self.runner.run(plan.step).logits
        self.scheduler.read(plan)
        self.trace.append({part.work.id: part.count for part in plan.parts})
        self._hand_out(plan, logits)
        account = self.pages.account()
        assert sorted(account.free + account.kept + account.held) == list(range(self.pages.count))
        return True

    def _hand_out(self, plan, logits):
        at = 0
        for part in plan.parts:
            rows, work = logits[at : at + part.wanted], part.work
            at += part.wanted
            for offset, row in enumerate(rows):
                np.testing.assert_array_equal(row, logits_after(work.ids[: part.first + offset + 1]))
            if work.scored is not None and part.wanted:
                work.scored = min(max(work.scored, part.first + part.wanted + 1), work.prompt)
            if part.wanted and part.first + part.wanted == len(work.ids):
                work.ids.append(int(rows[-1].argmax()))
                if len(work.ids) == self.ends[work]:
                    self.scheduler.end(work)
        assert at == len(logits)

    def run(self, most=3000):
        """Steps until all is done; the number of them."""
        for count in range(most):
            if not self.step():
                return count
        raise AssertionError("a deadlock")


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=24),  # the prompt
        st.integers(1, 12),  # how many it writes
        st.integers(-1, 1),  # priority
        st.booleans(),  # scored
        st.integers(0, 6),  # steps before the next one comes
        st.integers(0, 30),  # cancelled after so many of its steps
    ),
    max_size=14,
)


@settings(max_examples=250, deadline=None)
@given(
    requests=REQUESTS, count=st.integers(9, 24), together=st.integers(1, 6), prompt_rows=st.integers(1, 32)
)
def test_everyone_gets_what_it_would_get_alone(requests, count, together, prompt_rows):
    world = World(Pages(count, PAGE), together=together, prompt_rows=prompt_rows)
    works = []
    for number, (ids, written, priority, scored, pause, patience) in enumerate(requests):
        works.append((world.add(str(number), ids, written, priority, 1 if scored else None), ids, patience))
        for _ in range(pause):
            world.step()
        for work, _, patience in works:
            seen = sum(work.id in step for step in world.trace)
            if seen > patience and work in (*world.scheduler.running, *world.scheduler.waiting):
                world.scheduler.end(work)
                world.ends[work] = len(work.ids)
    world.run()
    for work, ids, _ in works:
        assert work.ids == alone(ids, world.ends[work] - len(ids))
        assert work.scored is None or work.scored == work.prompt or world.ends[work] == len(ids)
    assert world.pages.account().held == []


def test_a_long_prompt_stops_nobodys_writing_and_prompts_share_what_is_left():
    world = World(Pages(200, PAGE), prompt_rows=32)
    world.add("writer", [1, 2], count=20)
    world.step()
    world.add("long", range(200))
    world.add("longer", range(300, 500))
    for _ in range(4):
        world.step()
    assert world.trace[1:5] == [{"writer": 1, "long": 16, "longer": 15}] * 4


def test_a_short_prompt_is_not_held_up_by_a_long_one():
    world = World(Pages(200, PAGE))
    world.add("long", range(200))
    world.add("short", range(300, 310))
    world.step()
    assert world.trace == [{"long": 22, "short": 10}]


def test_the_larger_priority_reads_first_and_gets_a_place_that_a_smaller_one_holds():
    world = World(Pages(200, PAGE), together=2)
    works = [world.add(f"low {n}", range(n * 100, n * 100 + 60), count=9) for n in (1, 2, 3)]
    world.step()
    high = world.add("high", range(60), count=9, priority=1)
    world.step()
    assert [work.id for work in world.scheduler.running] == ["high", "low 1"] and high.waits == ""
    assert world.trace[-1] == {"high": 32}, "equals share, unequals do not"
    assert works[1].waits == "it had to make room for another"
    world.step()
    assert works[1].waits == "2 requests run, and no more may"
    assert works[2].waits == "others wait before it"
    world.run()
    read = sum(step.get("low 2", 0) for step in world.trace)
    assert read <= 60 + 8 + PAGE, "what it had read was still there"


def test_when_the_cache_is_full_the_last_of_the_least_priority_stops_and_goes_on_later():
    world = World(Pages(12, PAGE), together=3)
    works = [world.add(name, [n] * 8, count=24) for n, name in enumerate("abc")]
    while not world.scheduler.stopped:
        world.step()
    assert works[2].hold is None and all(work.hold for work in works[:2])
    world.run()
    last = {name: number for number, step in enumerate(world.trace) for name in step}
    assert last["a"] < last["c"] and last["b"] < last["c"]
    assert [work.ids for work in works] == [alone([n] * 8, 24) for n in range(3)]


def test_nobody_is_overtaken_because_it_needs_more():
    world = World(Pages(12, PAGE), together=3)
    world.add("first", range(30), count=4)
    world.step()
    big = world.add("big", range(100, 140))
    small = world.add("small", [7, 8])
    world.step()
    assert "pages are missing" in big.waits and small.waits == "others wait before it"
    world.run()
    order = [name for step in world.trace for name in step]
    assert order.index("big") < order.index("small")


def test_prompts_that_begin_alike_and_come_at_once_are_read_once():
    world = World(Pages(200, PAGE))
    prompt = list(range(80))
    works = [world.add(str(n), [*prompt, 90 + n], count=3) for n in range(3)]
    world.step()
    assert world.trace == [{"0": 32}]
    assert works[1].waits == works[2].waits == "another request reads its beginning just now"
    world.run()
    assert world.runner.rows == 81 + 1 + 1 + 3 * 2 and works[1].cached == works[2].cached == 80


def test_prompts_that_are_read_with_different_adapters_do_not_wait_for_each_other():
    scheduler = Scheduler(Pages(200, PAGE), 48, 4)
    for number in (2, 0, 2, 1):
        scheduler.add(Work(f"{number}", list(range(80)), adapter=number))
    step = scheduler.plan(48).step
    assert step.adapters == [0, 1, 2], "side by side, each once"
    assert [work.waits for work in scheduler.waiting] == ["another request reads its beginning just now"]


def test_others_do_not_wait_behind_one_that_waits_for_its_beginning():
    world = World(Pages(200, PAGE))
    world.add("one", range(80))
    world.add("twin", range(80))
    world.add("other", range(200, 210))
    world.step()
    assert world.trace == [{"one": 22, "other": 10}]


def test_a_prompt_to_be_scored_is_read_whole_and_no_part_of_it_is_scored_twice(monkeypatch):
    monkeypatch.setattr(scheduler_file, "SCORED", 5)
    world = World(Pages(30, PAGE))
    world.add("plain", range(20))
    world.run()
    work = world.add("scored", range(20), scored=1)
    world.run()
    assert work.cached == 0 and [step["scored"] for step in world.trace if "scored" in step] == [5, 5, 5, 5]


def test_a_scored_prompt_that_has_to_be_read_again_is_asked_no_more_than_its_last_logits():
    work = Work("stopped", [1, 2, 3], scored=2)
    assert work.asked == 1
    work.scored = 3
    work.ids.append(4)
    assert work.asked == 3


@given(unread=st.lists(st.integers(1, 700), max_size=70), rows=st.integers(0, 600))
def test_shares_leave_no_row_idle_and_no_first_without(unread, rows):
    given_rows = shares(unread, rows)
    assert all(0 <= count <= want for count, want in zip(given_rows, unread, strict=True))
    assert sum(given_rows) == min(rows, sum(unread))
    if unread and rows:
        assert given_rows[0] >= min(unread[0], FEWEST, rows)
    if len(unread) * FEWEST <= rows:
        even = rows // len(unread) if unread else 0
        assert all(count >= min(want, even) for count, want in zip(given_rows, unread, strict=True))


@given(
    per_row=st.floats(1e-6, 1),
    fixed=st.floats(0, 0.2),
    bound=st.integers(16, 512),
    target=st.floats(0.2, 0.3),
)
def test_chunks_settle_where_a_step_takes_its_time(per_row, fixed, bound, target):
    for _ in range(60):
        bound = next_rows(bound, bound, fixed + per_row * bound, 512, target)
        assert FEWEST <= bound <= 512
    seconds = fixed + per_row * bound
    assert bound == FEWEST or seconds <= target * 1.3
    assert bound == 512 or fixed + per_row * 2 * (bound + 1) > target * 0.9


def test_steps_that_tell_nothing_of_prompts_change_no_chunk():
    assert next_rows(100, 0, 9.0, 512) == 100, "only writing was slow"
    assert next_rows(100, 3, 0.001, 512) == 100, "the rest of a prompt was short"
    assert next_rows(100, 100, 0.0, 512) == 200 and next_rows(400, 400, 0.0, 512) == 512
    assert next_rows(512, 512, 60.0, 512) == FEWEST


@given(one=st.lists(st.integers(0, 1), max_size=20), other=st.lists(st.integers(0, 1), max_size=20))
def test_marks_are_equal_as_far_as_the_ids_are(one, other):
    for first, second, length in zip(marks(one, 3), marks(other, 3), range(3, 21, 3), strict=False):
        assert (first == second) == (one[:length] == other[:length])
