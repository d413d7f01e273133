"""Guessed tokens come several at once: clients get the same replies, and are told what became of a prediction."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
import openai
from conftest import TOKENIZER, site
from small_world import parrot

from puna.engine.draft import Lookup

SAID = "abcdé€fgh "  # over and over; no byte twice


@pytest.fixture(scope="module")
def both():
    """Two servers of one model; the second guesses."""
    ids = TOKENIZER.encode(SAID)
    model = parrot(TOKENIZER.size, [TOKENIZER.special["<end>"], *ids, ids[0]])
    with site(model) as plain, site(model) as guessing:
        guessing.engine.drafts = Lookup()
        yield plain, guessing


def chat(here, **rest):
    given = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "?"}],
        "temperature": 0,
        "max_tokens": 60,
    }
    return here.client.chat.completions.create(**given, **rest)


def test_replies_are_those_without_guesses_to_the_last_offset(both):
    given = {
        "prompt": "?a",
        "max_tokens": 70,
        "logprobs": 1,
        "temperature": 0,
        "stop": ["h ab!"],
    }
    plain, guessed = (here.client.completions.create(model="tiny", **given) for here in both)
    assert plain.choices == guessed.choices and plain.usage == guessed.usage
    scores = guessed.choices[0].logprobs
    assert len(set(scores.text_offset)) > 30
    chunks = [list(here.client.completions.create(model="tiny", stream=True, **given)) for here in both]
    texts = ["".join(chunk.choices[0].text for chunk in some) for some in chunks]
    offsets = [
        [at for c in some if c.choices[0].logprobs for at in c.choices[0].logprobs.text_offset]
        for some in chunks
    ]
    assert texts == [plain.choices[0].text] * 2 and offsets == [scores.text_offset] * 2
    assert len(chunks[1]) < len(chunks[0]) / 2


@pytest.mark.parametrize(
    "content", [SAID * 3, [{"type": "text", "text": SAID}, {"type": "text", "text": SAID}]]
)
def test_a_prediction_changes_no_word_and_its_usage_is_told(both, content):
    wanted = chat(both[0])
    assert wanted.usage.completion_tokens_details is None
    reply = chat(both[1], prediction={"type": "content", "content": content})
    assert reply.choices == wanted.choices
    details = reply.usage.completion_tokens_details
    assert details.accepted_prediction_tokens > 30 and details.rejected_prediction_tokens < 10
    wrong = chat(both[1], prediction={"type": "content", "content": "something else"})
    assert wrong.choices == wanted.choices and wrong.usage.completion_tokens_details is not None


def test_a_prediction_of_another_kind_is_refused(both):
    with pytest.raises(openai.BadRequestError, match=r"prediction\.type"):
        chat(both[1], prediction={"type": "image", "content": ""})
