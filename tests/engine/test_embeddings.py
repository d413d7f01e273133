"""A prompt as a vector: the mean of its last hidden states, or the last of them, whatever else is read or was."""

import numpy as np
import pytest
import torch
from hash_runner import HashRunner, hash_config, logits_after
from small_world import ByteTokenizer, random_llama, torch_engine

from puna.engine.engine import Engine
from puna.engine.request import Request
from puna.errors import RequestError
from puna.model.attend import causal

TOKENIZER = ByteTokenizer()
MODEL = random_llama(TOKENIZER.size)
TEXTS = ["P", "Puna", "the high grassland where llamas live " * 5, "the high grassland " * 9]


def asked(text, embed, **rest):
    return Request(ids=tuple(TOKENIZER.encode(text)), embed=embed, max_tokens=0, **rest)


def vector(stream):
    (last,) = list(stream)
    assert (
        last.finish == "length" and last.ids == () and last.text == "" and last.embedding.dtype == "float32"
    )
    return last.embedding


def states(text):
    """The hidden states (T, D) of a text that is read at once."""
    ids = torch.tensor(TOKENIZER.encode(text))
    with torch.inference_mode():
        return MODEL.model(ids[None], torch.arange(len(ids))[None], causal)[0].double().numpy()


def wanted(text, embed):
    return states(text).mean(0) if embed == "mean" else states(text)[-1]


@pytest.mark.parametrize("embed", ["mean", "last"])
@pytest.mark.parametrize("rows", [8, 512])
def test_a_vector_is_that_of_the_models_own_hidden_states(embed, rows):
    with torch_engine(MODEL, TOKENIZER, rows=rows, together=8) as engine:
        streams = [engine.submit(asked(text, embed)) for text in TEXTS * 2]
        for text, stream in zip(TEXTS * 2, streams, strict=True):
            np.testing.assert_allclose(vector(stream), wanted(text, embed), atol=1e-5)


def test_the_last_state_needs_only_what_was_not_read_and_the_mean_needs_all():
    text = TEXTS[2]
    with torch_engine(MODEL, TOKENIZER) as engine:
        list(engine.submit(Request(ids=tuple(TOKENIZER.encode(text)), max_tokens=1)))
        for embed, cached in (("last", len(text) - 1), ("mean", 0)):
            (last,) = list(engine.submit(asked(text, embed)))
            assert last.usage.cached_tokens == cached and last.usage.completion_tokens == 0
            np.testing.assert_allclose(last.embedding, wanted(text, embed), atol=1e-5)
        answer = list(engine.submit(Request(ids=tuple(TOKENIZER.encode(text)), max_tokens=1)))
        assert answer[-1].usage.cached_tokens == len(text) - 1, "what was embedded is there for others"


def test_a_mean_that_has_to_stop_goes_on_where_it_was_and_counts_nothing_twice():
    """The hash of all that is before is the state of each position."""
    ids, urgent = list(range(60)), []
    expected = sum(logits_after(ids[: n + 1]).astype(np.float64) for n in range(60)) / 60

    def interrupt():  # the engine's thread is here, within the second step
        if runner.steps == 2:
            urgent.append(engine.submit(Request(ids=(7,) * 50, max_tokens=4, priority=1)))
        return False

    runner = HashRunner(16, 4, fails=interrupt)
    with Engine(runner, hash_config(64), TOKENIZER, rows=16, together=2) as engine:
        stream = engine.submit(Request(ids=tuple(ids), embed="mean", max_tokens=0))
        np.testing.assert_array_equal(vector(stream), expected.astype(np.float32))
        assert list(urgent[0])[-1].finish == "length" and engine.scheduler.stopped == 1
        account = engine.pages.account()
        assert not account.held and sorted(account.free + account.kept) == list(range(16))


def test_a_vector_comes_alone():
    with torch_engine(MODEL, TOKENIZER) as engine:
        for wrong in ({"max_tokens": 1}, {"max_tokens": None}, {"max_tokens": 0, "prompt_logprobs": True}):
            with pytest.raises(RequestError, match="a vector comes alone"):
                engine.submit(Request(ids=(1, 2), embed="mean", **wrong))
    broken = random_llama(TOKENIZER.size)
    broken.model.embed_tokens.weight[80] = float("nan")
    with torch_engine(broken, TOKENIZER) as engine:
        (last,) = list(engine.submit(asked("P", "mean")))
        assert last.finish == "error" and "not finite" in last.problem
