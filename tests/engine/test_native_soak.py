"""Random requests that stop each other over the native step, in both kinds of cache: each gets what it would get
alone, to the last bit, with adapters, guesses, vectors and what others read before."""

import random
import threading
from collections import defaultdict

import numpy as np
import pytest
from adapters import write_peft
from drawn import Drawn
from small_world import ByteTokenizer

from puna.engine.draft import Lookup
from puna.engine.engine import Engine
from puna.engine.native import NativeRunner
from puna.engine.request import Request, Sampling
from puna.kernels import llama
from puna.model.config import ModelConfig
from puna.model.lora import read_adapter

if reason := llama.works_here():
    pytest.skip(reason, allow_module_level=True)

TOKENIZER = ByteTokenizer()
CONFIG = ModelConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=32,
                     intermediate_size=64, vocab_size=TOKENIZER.size, max_position_embeddings=160)  # fmt: skip
REQUESTS = 40


class Counted(NativeRunner):
    """Tells what it was asked for."""

    rows = copies = 0

    def run(self, step):
        self.rows += len(step.tokens)
        return super().run(step)

    def copy(self, source, target):
        self.copies += 1
        super().copy(source, target)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return read_adapter(write_peft(tmp_path_factory.mktemp("peft"), CONFIG), CONFIG)


def engine(adapter, cache, pages, **settings):
    weights = Drawn(CONFIG)
    weights.tensors["lm_head.weight"] *= 6  # a model that is sure, so that guesses come true
    opened = Engine(Counted(weights, pages, 1, cache=cache), CONFIG, TOKENIZER, context=150, **settings)
    opened.add_adapter("other", adapter)
    return opened


def asked(dice):
    """Requests whose prompts begin alike, some repeat themselves, some want a vector."""
    texts = [[dice.randrange(256) for _ in range(130)] for _ in range(3)]
    for number in range(REQUESTS):
        ids = dice.choice(texts)[: dice.randint(1, 120)]
        ids = (ids[:20] * 5)[: len(ids)] if dice.random() < 0.3 else ids
        ids = [*ids, *(dice.randrange(256) for _ in range(dice.randint(0, 5)))]
        sampling = Sampling(temperature=dice.choice((0, 0.8)), seed=number)
        embed = "mean" if dice.random() < 0.15 else None
        yield Request(
            id=str(number),
            ids=tuple(ids),
            sampling=sampling,
            max_tokens=0 if embed else dice.randint(1, 150 - len(ids)),
            logprobs=1,
            embed=embed,
            adapter=dice.choice((None, None, "other")),
        )


def told(events):
    return (
        [id for event in events for id in event.ids],
        [score for event in events for score in event.scores],
        [event.finish for event in events[-1:]],
    )


@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_each_gets_what_it_would_get_alone_to_the_bit(adapter, cache):
    requests, found, over = list(asked(random.Random(7))), defaultdict(list), threading.Semaphore(0)
    crowded = engine(adapter, cache, 7, rows=24, together=5)
    runner, crowded.drafts = crowded.runner, Lookup()
    with crowded:
        for request in requests:

            def take(event, id=request.id):
                found[id].append(event)
                if event.finish:
                    over.release()

            crowded.begin(request, take)
        for _ in requests:
            assert over.acquire(timeout=60)
    for request in requests:
        with engine(adapter, cache, 5) as own:
            alone = list(own.submit(request))
        events = found[request.id]
        assert told(events) == told(alone), request.id
        if request.embed:
            np.testing.assert_array_equal(events[-1].embedding, alone[-1].embedding)
    usages = [events[-1].usage for events in found.values()]
    assert sum(usage.cached_tokens for usage in usages) > 100 and runner.copies > 0
    assert sum(usage.accepted_tokens for usage in usages) > 0
    written = sum(usage.completion_tokens + usage.guessed_tokens - usage.accepted_tokens for usage in usages)
    once = written + sum(usage.prompt_tokens - usage.cached_tokens for usage in usages)
    assert runner.rows > once, "some had to stop, and read again what was lost"
