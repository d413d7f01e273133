"""Guesses change when tokens are written, never which; and where they fail they cost nothing."""

import copy
import random
import threading
from dataclasses import replace

import pytest
import torch
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer, random_llama, torch_engine

from puna import hub, log
from puna.engine.draft import AT_ONCE, ROWS, Lookup, Trail
from puna.engine.draft_model import ModelDrafts
from puna.engine.engine import Engine
from puna.engine.load import open_drafts
from puna.engine.native import NativeRunner
from puna.engine.request import Request, Sampling
from puna.engine.sample import Sampler
from puna.engine.task import Task
from puna.errors import PunaError, RequestError, TokenizerError
from puna.kernels import llama
from puna.model.config import HERD
from puna.quant.source import open_weights
from puna.tokenizer import formats

TOKENIZER = ByteTokenizer()
PHRASE = tuple(random.Random(0).choices(range(256), k=40))
WAYS = (
    Sampling(temperature=0),
    Sampling(temperature=0.9, top_p=0.95, seed=3),
    Sampling(temperature=0.7, frequency_penalty=0.4, repetition_penalty=1.1, seed=4),
)


class Saying(HashRunner):
    """A model that says a phrase over and over, and sometimes, by all it has read, something else."""

    longest = 0  # step without a prompt, in rows

    @staticmethod
    def logits(ids, poison=None):
        row = logits_after(ids).copy()
        row[PHRASE[len(ids) % len(PHRASE)]] += 20 if hash(tuple(ids)) % 9 else 0
        return row

    begin = None  # the first step waits until all have asked

    def run(self, step):
        if self.begin:
            assert self.begin.wait(60)
        if step.starts[-1] <= len(step.wanted):
            self.longest = max(self.longest, len(step.tokens))
        return super().run(step)


class Elsewhere(HashRunner):
    """Another model, as sure, that is at another place of the phrase."""

    @staticmethod
    def logits(ids, poison=None):
        return Saying.logits([*ids, 0])


class Dull(HashRunner):
    """A model of few tokens in no order: the same two ids come again and again, and tell nothing."""

    @staticmethod
    def logits(ids, poison=None):
        row = logits_after(ids).copy()
        row[12:] -= 100
        return row


def told(runner, requests, drafts=None, together=64, config=None):
    """Of each: ids, text, scores and how it ended; and their usages."""
    said, usages = [], []
    with Engine(runner, config or hash_config(600), TOKENIZER, together=together) as engine:
        engine.drafts, runner.begin = drafts, threading.Event()
        streams = [engine.submit(request) for request in requests]
        runner.begin.set()
        for stream in streams:
            events = list(stream)
            ids = [id for event in events for id in event.ids]
            scores = [score for event in events for score in event.scores]
            said.append((ids, "".join(event.text for event in events), scores, events[-1].finish))
            usages.append(events[-1].usage)
        assert engine.drafts is drafts
    return said, usages


@pytest.mark.parametrize("sampling", WAYS)
def test_what_was_said_before_is_guessed_and_changes_nothing(sampling):
    request = Request(ids=(1, 2), sampling=sampling, max_tokens=400, logprobs=1)
    plain, guessing = Saying(160, 4), Saying(160, 4)
    without, _ = told(plain, [request])
    said, (usage,) = told(guessing, [request], Lookup())
    assert said == without
    assert usage.accepted_tokens > 120 and guessing.steps == plain.steps - usage.accepted_tokens
    assert usage.accepted_tokens > usage.guessed_tokens / 2 and guessing.longest <= ROWS


def test_many_that_write_share_the_rows_and_more_than_that_are_not_guessed():
    requests = [Request(ids=(n,), sampling=WAYS[0], max_tokens=150) for n in range(ROWS + 2)]
    for count, guessed in ((3, True), (ROWS - 1, True), (ROWS, False)):
        runner = Saying(600, 4)
        said, usages = told(runner, requests[:count], Lookup())
        assert said == told(Saying(600, 4), requests[:count])[0]
        assert runner.longest == ROWS and (sum(usage.accepted_tokens for usage in usages) > 20) is guessed


def test_guesses_that_fail_are_given_up_and_come_again_once_they_would_have_been_right():
    request = Request(ids=(1, 2), sampling=WAYS[0], max_tokens=500)
    _, (usage,) = told(Dull(160, 4), [request], Lookup())
    assert usage.guessed_tokens < 500 / 10
    trail = Trail(Task(request, print, 600, TOKENIZER, TOKENIZER.size))
    trail.task.ids += random.Random(0).choices(range(12), k=300)
    assert trail.follow() and trail.chance(0) < 0.2
    trail.task.ids += [*PHRASE] * 3
    assert trail.follow() and trail.chance(0) > 0.8 and trail.guesses(3) == [*PHRASE[:3]]


def test_the_longest_beginning_counts_and_guesses_go_round():
    trail = Trail(Task(Request(ids=(1, 2, 3, 4, 50, 9, 3, 4, 60, 1, 2, 3, 4)), print, 600, TOKENIZER, 261))
    assert trail.follow() and trail.guesses(2) == [50, 9]
    round = Trail(Task(Request(ids=(1, 2, 3, 1, 2)), print, 600, TOKENIZER, 261))
    assert round.follow() and round.guesses(7) == [3, 1, 2, 3, 1, 2, 3]


def test_a_long_prompt_is_taken_in_piece_by_piece_and_never_twice():
    ids = tuple(random.Random(0).choices(range(256), k=3 * AT_ONCE + 5))
    trail = Trail(Task(Request(ids=ids), print, 10**6, TOKENIZER, TOKENIZER.size))
    assert [trail.follow() for _ in range(5)] == [False, False, False, True, True]
    assert trail.text == list(ids)


def test_a_prediction_is_where_guesses_come_from_and_nothing_else():
    request = Request(ids=(1, 2), sampling=WAYS[0], max_tokens=39, prediction=(*PHRASE[2:], *PHRASE[:2]))
    without, (none,) = told(Saying(40, 4), [Request(ids=(1, 2), sampling=WAYS[0], max_tokens=39)], Lookup())
    said, (usage,) = told(Saying(40, 4), [request], Lookup())
    assert said == without and usage.accepted_tokens > 15 > none.accepted_tokens
    wrong = Request(ids=(1, 2), sampling=WAYS[0], max_tokens=39, prediction=tuple(range(100)))
    assert told(Saying(40, 4), [wrong], Lookup())[0] == without
    with pytest.raises(RequestError, match="261 is no token"):
        told(Saying(40, 4), [Request(ids=(1,), prediction=(261,))])


def test_a_guess_is_drawn_with_the_number_that_its_token_will_be_drawn_with():
    for sampling in WAYS[:2]:
        sampler, plain = Sampler(sampling, (), 264), Sampler(sampling, (), 264)
        rows = [logits_after([n]) for n in range(40)]
        foreseen = [sampler.foresee(row, ahead) for ahead, row in enumerate(rows)]
        assert foreseen == [sampler.choose(row) for row in rows] == [plain.choose(row) for row in rows]


def test_who_cannot_guess_is_not_asked_again_and_nobody_comes_to_harm():
    request, records = Request(ids=(1, 2), sampling=WAYS[0], max_tokens=50), []
    broken = ModelDrafts(HashRunner(60, 4, fails=lambda: True), 600, share=0.1)
    with log.listening(records.append), Engine(Saying(60, 4), hash_config(200), TOKENIZER) as engine:
        engine.drafts = broken
        events = list(engine.submit(request))
        assert events[-1].finish == "length" and engine.drafts is None
    assert [record["drafts"] for record in records if record["event"] == "engine.error"] == ["ModelDrafts"]


def test_a_second_model_that_is_wrong_rests_longer_and_longer():
    request = Request(ids=(1, 2), sampling=WAYS[0], max_tokens=500)
    right = ModelDrafts(Saying(160, 4), 600, share=0.1)
    said, (good,) = told(Saying(160, 4), [request], right)
    assert good.accepted_tokens > 300 and good.accepted_tokens == good.guessed_tokens
    runner = Elsewhere(160, 4)
    again, (bad,) = told(Saying(160, 4), [request], ModelDrafts(runner, 600, share=0.1))
    assert again == said and bad.guessed_tokens < 60 and runner.steps < 40


@pytest.mark.skipif(llama.works_here() is not None, reason="no native step here")
@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_real_models_say_the_same_to_the_bit_with_and_without_guesses(cache):
    from test_native import CONFIG, Drawn

    def runner(dtype=torch.float32):
        weights = Drawn(CONFIG, dtype)
        weights.tensors["lm_head.weight"] *= 8  # a model that is sure
        return NativeRunner(weights, 40, 1, cache=cache)

    requests = [Request(ids=(5, 6, 7), sampling=way, max_tokens=80, logprobs=2) for way in WAYS]
    without, _ = told(runner(), requests, config=CONFIG)
    for drafts in (Lookup(), ModelDrafts(runner(torch.bfloat16), 600, share=0)):
        wanted = [replace(request, id=str(n), prediction=nearly(ids[0]))
                  for n, (request, ids) in enumerate(zip(requests, without, strict=True))]  # fmt: skip
        said, usages = told(runner(), wanted, drafts, config=CONFIG)
        assert said == without and sum(usage.accepted_tokens for usage in usages) > 30


def nearly(ids):
    """Every eleventh is missing."""
    return tuple(id for place, id in enumerate(ids) if place % 11 != 10)


def test_in_torch_scores_with_guesses_are_those_without_within_its_tolerance():
    model, told = random_llama(TOKENIZER.size), []
    request = Request(ids=PHRASE, sampling=WAYS[0], max_tokens=100, logprobs=0)
    for drafts in (None, Lookup()):
        with torch_engine(model, TOKENIZER) as engine:
            engine.drafts = drafts
            told.append(list(engine.submit(request)))
            request = replace(request, prediction=nearly([id for event in told[0] for id in event.ids]))
    assert told[1][-1].usage.accepted_tokens > 30 and len(told[1]) < len(told[0])
    plain, guessed = ([score for event in events for score in event.scores] for events in told)
    assert [score.id for score in plain] == [score.id for score in guessed]
    assert [score.logprob for score in plain] == pytest.approx([score.logprob for score in guessed], abs=1e-5)


def test_who_guesses_is_chosen_by_name_and_must_fit():
    runner, config = HashRunner(40, 4), HERD["3-8b"]
    with Engine(runner, config, TOKENIZER) as engine:
        assert open_drafts("off", engine, None, "auto", 1) is None
        assert open_drafts("auto", engine, None, "auto", 1) is None, "a hash is no native step"
        assert isinstance(open_drafts("ngram", engine, None, "auto", 1), Lookup)
        with pytest.raises(PunaError, match="nothere"):
            open_drafts("nothere", engine, None, "auto", 1)
        place = hub.find("smollm2")
        tokenizer = formats.load(place.path)
        drafts = open_drafts("smollm2", engine, tokenizer, "auto", 1)
        assert isinstance(drafts, ModelDrafts) and drafts.context == engine.context == 160
        other = copy.copy(tokenizer)
        other.specials = {}
        with pytest.raises(TokenizerError, match="its vocabulary is not that of"):
            open_drafts("smollm2", engine, other, "auto", 1)
        engine.config = open_weights(place).config
        with pytest.raises(PunaError, match="100% of the large model's size"):
            open_drafts("smollm2", engine, tokenizer, "auto", 1)
