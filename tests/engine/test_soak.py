"""Many requests at random, over a runner that is a hash: each gets what it would get alone, and nothing leaks.

The cache is too small for them, so they stop each other, wait, are cancelled, fail, and find what others read.
"""

import random
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer

from puna.engine.engine import Engine
from puna.engine.grammar import Guides
from puna.engine.request import Grammar, Request, Sampling
from puna.engine.sample import Sampler, score

TOKENIZER = ByteTokenizer()
GUIDES, GRAMMAR = Guides(TOKENIZER), Grammar("regex", "([a-f] [0-9]+,)*")
PAGE, PAGES, CONTEXT = 4, 34, 64
POISON = 200


@dataclass
class Asked:
    """One request and all that came back."""

    request: Request
    limit: int
    patience: int  # cancelled after so many events, by whoever listens
    salt: int  # its adapter
    events: list = field(default_factory=list)

    def holds(self):
        """What came is what would have come alone, as far as it goes."""
        events, request = self.events, self.request
        last, written = events[-1], [id for event in events for id in event.ids]
        assert [event.finish for event in events[:-1]] == [None] * (len(events) - 1)
        sampler, ids = Sampler(request.sampling, request.ids, TOKENIZER.size), list(request.ids)
        guide = GUIDES.guide(request.grammar) if request.grammar else None
        for event in events:
            for id in event.ids:
                row = logits_after(ids, salt=self.salt)
                chosen = sampler.choose(row[: TOKENIZER.size], guide and guide.allowed())
                assert chosen == id, "a draw depends on nothing else that runs"
                if guide:
                    guide.take(id)
                if request.logprobs is not None:
                    assert event.scores == (score(row, id, request.logprobs, TOKENIZER.size),)
                ids.append(id)
        if last.finish == "stop":
            assert guide and guide.is_over
        if last.finish == "length":
            assert len(written) == self.limit and (
                last.usage.cached_tokens == 0 or not request.prompt_logprobs
            )
        if last.finish == "error":
            assert "the step failed" in last.problem or ("damaged" in last.problem and POISON in ids)
        if request.embed and last.finish == "length":
            np.testing.assert_array_equal(last.embedding, vector(request, self.salt))
        if request.prompt_logprobs and last.finish == "length":
            assert list(events[0].prompt_scores) == prompt_scores(request.ids, self.salt)


def prompt_scores(ids, salt):
    rows = (logits_after(ids[:n], salt=salt) for n in range(1, len(ids)))
    return [None, *(score(row, id, 0, TOKENIZER.size) for row, id in zip(rows, ids[1:], strict=True))]


def vector(request, salt):
    ids = request.ids
    rows = [
        logits_after(ids[:n], salt=salt)
        for n in range(1 if request.embed == "mean" else len(ids), len(ids) + 1)
    ]
    return (sum(row.astype(np.float64) for row in rows) / len(rows)).astype(np.float32)


class Crowd:
    """Requests at random, a few of them at a time, at one engine."""

    def __init__(self, seed):
        self.dice, self.seen = random.Random(seed), [(1, 2, 3)]
        self.places, self.all = threading.Semaphore(24), []
        faults = random.Random(seed + 1)
        self.runner = HashRunner(PAGES, PAGE, POISON, lambda: faults.random() < 0.002)
        self.engine = Engine(self.runner, hash_config(CONTEXT), TOKENIZER, rows=24, together=8, waiting=16)
        self.salts = {None: 0}
        for name in ("one", "two"):
            self.change(name)

    def change(self, name):
        """Another adapter under this name from now on."""
        if name in self.salts:
            self.engine.remove_adapter(name)
        self.salts[name] = max(self.salts.values()) + 1
        self.engine.add_adapter(name, self.salts[name])

    def ids(self):
        """New ones, or what someone began with, or a whole conversation and a next question."""
        dice = self.dice
        begin = dice.choice(self.seen)[: dice.choice([0, 8, 16, 60])] if dice.random() < 0.8 else ()
        more = [dice.choice([1, 2, 3, 9]) for _ in range(dice.choice([1, 2, 7, 20, 50]))]
        if dice.random() < 0.02:
            more[dice.randrange(len(more))] = POISON
        return (*begin, *more)[: CONTEXT - 1]

    def ask(self):
        dice, ids = self.dice, self.ids()
        adapter = dice.choice([None, None, None, "one", "two"])
        embed = dice.choice([*[None] * 10, "mean", "last"])
        most = 0 if embed else dice.choice([0, 1, 5, 12, 12, 30, None])
        asked = Asked(
            Request(
                ids=ids,
                sampling=Sampling(temperature=dice.choice([0.0, 1.0]), seed=dice.randrange(10**6)),
                max_tokens=most,
                logprobs=dice.choice([None, None, 0]),
                prompt_logprobs=not embed and dice.random() < 0.1,
                embed=embed,
                adapter=adapter,
                priority=dice.choice([0, 0, 0, 1, -1]),
                grammar=dice.choice([None, None, None, GRAMMAR]),
            ),
            CONTEXT - len(ids) if most is None else min(most, CONTEXT - len(ids)),
            dice.choice([1, 4]) if dice.random() < 0.15 else 10**9,
            self.salts[adapter],
        )

        def deliver(event):
            asked.events.append(event)
            if len(asked.events) == asked.patience:
                self.engine.cancel(asked.request.id)
            if event.finish:
                self.places.release()

        assert self.places.acquire(timeout=60), "a deadlock"
        self.all.append(asked)
        self.engine.begin(asked.request, deliver)

    def go_on(self, count):
        for _ in range(count):
            self.ask()
            if self.dice.random() < 0.01:
                self.change("two")
            older = self.all[self.dice.randrange(len(self.all))]
            if self.dice.random() < 0.1:
                self.engine.cancel(older.request.id)
            if POISON not in older.request.ids:
                written = [id for event in tuple(older.events) for id in event.ids]
                self.seen = [*self.seen[-20:], (*older.request.ids, *written)]
        for _ in range(24):
            assert self.places.acquire(timeout=60), "a deadlock"


def soak(count, seed=0):
    crowd = Crowd(seed)
    crowd.go_on(count)
    account = crowd.engine.pages.account()
    assert sorted(account.free + account.kept + account.held) == list(range(PAGES)) and account.held == []
    assert len(crowd.runner.salts) == len(crowd.engine.pages.roots) == 3, (
        "adapters that are gone left nothing"
    )
    assert crowd.engine.running == 0 and crowd.engine.waits() == {}
    crowd.engine.close()
    for asked in crowd.all:
        asked.holds()
    ends = [asked.events[-1].finish for asked in crowd.all]
    assert set(ends) == {"length", "stop", "cancelled", "error"} and ends.count("length") > count / 2
    cached = sum(asked.events[-1].usage.cached_tokens for asked in crowd.all)
    assert cached > count / 2 and crowd.engine.scheduler.stopped > count / 100, (
        "the tree and the queue were used"
    )


def test_two_thousand_requests_get_what_they_would_get_alone_and_leak_no_page():
    soak(2000)


@pytest.mark.slow
def test_ten_thousand_requests_get_what_they_would_get_alone_and_leak_no_page():
    soak(10_000, seed=7)
