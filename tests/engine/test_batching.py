"""The engine's thread over a runner that is a hash: steps that fail, places, priorities, and who waits why."""

import threading

import pytest
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer

from puna.engine.engine import Engine
from puna.engine.request import Request, Sampling

TOKENIZER = ByteTokenizer()


def engine_over(runner, **rest):
    return Engine(runner, hash_config(runner.pages * runner.page), TOKENIZER, **rest)


def asked(ids, count=4, **rest):
    return Request(ids=tuple(ids), sampling=Sampling(temperature=0), max_tokens=count, **rest)


def alone(ids, count):
    ids = list(ids)
    for _ in range(count):
        ids.append(int(logits_after(ids)[: TOKENIZER.size].argmax()))
    return ids[-count:]


def written(stream):
    return [id for event in stream for id in event.ids]


def whole(engine):
    """Nothing runs, and every page can be had."""
    account = engine.pages.account()
    return not account.held and sorted(account.free + account.kept) == list(range(engine.pages.count))


def test_a_step_that_fails_ends_its_requests_and_no_others():
    failing, all_begun = threading.Event(), threading.Event()
    runner = HashRunner(40, 4, fails=lambda: all_begun.wait(20) and failing.is_set())
    with engine_over(runner, together=2) as engine:
        last = {}

        def listener(name):
            def deliver(event):
                if name == "b" and event.ids:
                    failing.set()  # the engine's thread is here: the next step is the one that fails
                if event.finish:
                    failing.clear()
                    last[name] = event
                    ended.release()

            return deliver

        ended = threading.Semaphore(0)
        for name, ids in {"a": [1] * 9, "b": [2] * 9, "c": [3] * 9}.items():
            engine.begin(asked(ids, 30 if name == "a" else 5), listener(name))
        all_begun.set()
        assert all(ended.acquire(timeout=20) for _ in range(3))
        assert [last[name].finish for name in "abc"] == ["error", "error", "length"]
        assert last["a"].problem == "RuntimeError: the step failed"
        assert whole(engine)
        again = list(engine.submit(asked([1] * 9)))
        assert written(again) == alone([1] * 9, 4) and again[-1].usage.cached_tokens == 0
        assert whole(engine)


@pytest.mark.parametrize("fails", [False, True])
def test_pages_are_copied_in_the_order_in_which_they_were_given_away(fails):
    """The page that the first one copies from becomes the second one's."""
    runner = HashRunner(3, 3)
    got, ended = {}, threading.Semaphore(0)

    def collect(name):
        def deliver(event):
            got.setdefault(name, []).append(event)
            if event.finish:
                ended.release()

        return deliver

    def then_both(event):  # the engine's thread is here, so both come at once
        if fails:
            runner.copy = None
        for name, ids in {"first": (1, 2, 9), "second": (5, 6, 9)}.items():
            engine.begin(asked(ids, 1), collect(name))

    with engine_over(runner) as engine:
        list(engine.submit(asked([1, 2], 1)))
        engine.begin(asked([5, 6], 1), then_both)
        assert ended.acquire(timeout=20) and ended.acquire(timeout=20)
        for name, ids in {"first": (1, 2, 9), "second": (5, 6, 9)}.items():
            event = got[name][-1]
            if fails:
                assert event.finish == "error" and "not callable" in event.problem
            else:
                assert event.usage.cached_tokens == 2 and list(event.ids) == alone(ids, 1)
        assert whole(engine)


def test_who_waits_can_be_asked_why_and_the_larger_priority_does_not_wait():
    seen, ended = [], threading.Event()
    with engine_over(HashRunner(40, 4), together=1) as engine:

        def deliver(event):
            if len(seen) == 0:
                engine.begin(asked([2] * 9, id="equal"), lambda event: None)
            if len(seen) == 3:
                engine.begin(asked([3] * 9, id="urgent", priority=1), lambda event: seen.append("urgent"))
            seen.append(engine.waits())
            if event.finish:
                ended.set()

        engine.begin(asked([1] * 9, 12, id="first"), deliver)
        assert ended.wait(20)
    assert seen[0] == {"equal": "it came after the last step began"}
    assert seen[2] == {"equal": "1 requests run, and no more may"}
    assert seen[4:8] == ["urgent"] * 4, "it had the only place to itself"


def test_a_long_prompt_that_is_cancelled_is_given_up_at_the_next_step_and_what_was_read_stays():
    entered, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def gate():
        entered.release()
        assert go_on.acquire(timeout=20)
        return False

    with engine_over(HashRunner(100, 4, fails=gate), rows=16, together=4) as engine:
        stream = engine.submit(asked(range(200)))
        assert entered.acquire(timeout=20)
        stream.close()
        go_on.release(100)
        (last,) = list(stream)
        assert last.finish == "cancelled" and engine.runner.steps == 1
        again = list(engine.submit(asked(range(200))))
        assert again[-1].usage.cached_tokens == 16 and written(again) == alone(range(200), 4)
