"""The chance of an answer is the same whether the model is made to write it or reads it as part of a prompt."""

import pytest

pytest.importorskip("torch")

from puna.engine.choices import log_chances
from puna.engine.request import Request
from puna.errors import RequestError
from tests.small_world import ByteTokenizer, parrot, random_llama, torch_engine

PROMPT = tuple(b"Is it safe? ")
ANSWERS = [list(b"safe"), list(b"unsafe"), list(b"sad"), list(b"s")]


@pytest.fixture(scope="module")
def engine():
    tokenizer = ByteTokenizer()
    with torch_engine(random_llama(tokenizer.size), tokenizer) as engine:
        yield engine


def read(engine, ids):
    """The log-probability of each of the ids after the first, read all at once."""
    request = Request(ids=tuple(ids), prompt_logprobs=True, max_tokens=0, logprobs=0)
    return [score.logprob for event in engine.submit(request) for score in event.prompt_scores if score]


def test_the_chances_are_those_of_reading_the_answer(engine):
    for answer, found in zip(ANSWERS, log_chances(engine, PROMPT, ANSWERS), strict=True):
        assert found == pytest.approx(sum(read(engine, (*PROMPT, *answer))[len(PROMPT) - 1 :]), abs=1e-4)


def test_the_order_of_the_answers_does_not_matter(engine):
    backwards = log_chances(engine, PROMPT, ANSWERS[::-1])[::-1]
    assert log_chances(engine, PROMPT, ANSWERS) == pytest.approx(backwards, abs=1e-4)


def test_what_the_model_always_says_is_all_but_certain():
    tokenizer = ByteTokenizer()
    with torch_engine(parrot(tokenizer.size, b"?yes"), tokenizer) as engine:
        yes, no = log_chances(engine, tuple(b"?"), [list(b"yes"), list(b"no")])
    assert yes > -0.1 and no < -9


def test_a_prompt_that_fills_the_memory_is_refused(engine):
    with pytest.raises(RequestError, match="context"):
        log_chances(engine, PROMPT * 50, ANSWERS)
