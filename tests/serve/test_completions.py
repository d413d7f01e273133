"""POST /v1/completions with the real openai client: continuation, echo and scores."""

import openai
import pytest
import torch
from conftest import TOKENIZER

from puna.model.attend import causal

PROMPTS = ["The high", "grass é", "land"]


def complete(site, prompt, **rest):
    return site.client.completions.create(
        **{"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0, **rest}
    )


def with_bos(text):
    return [TOKENIZER.bos_id, *TOKENIZER.encode(text)]


def log_probabilities(site, ids):
    ids = torch.tensor(ids)
    with torch.inference_mode():
        rows = site.engine.runner.model(ids[None], torch.arange(len(ids))[None], causal)[0].log_softmax(-1)
    return [None, *rows[:-1].gather(1, ids[1:, None])[:, 0].tolist()]


def test_all_four_forms_of_prompt_give_the_same_texts(tiny):
    alone = [complete(tiny, prompt).choices[0].text for prompt in PROMPTS]
    ids = [with_bos(prompt) for prompt in PROMPTS]
    assert [complete(tiny, each).choices[0].text for each in ids] == alone
    for many in (PROMPTS, ids):
        reply = complete(tiny, many)
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert [choice.text for choice in reply.choices] == alone
        assert reply.usage.prompt_tokens == sum(map(len, ids)) and reply.usage.completion_tokens == 24
    assert reply.object == "text_completion"


def test_sixteen_tokens_are_written_unless_told_otherwise(tiny):
    assert complete(tiny, "x", max_tokens=openai.omit, logit_bias={"65": 100}).usage.completion_tokens == 16


def test_choices_of_a_prompt_stand_side_by_side(tiny):
    reply = complete(tiny, PROMPTS, n=2, temperature=1.3, seed=5)
    again = [complete(tiny, prompt, n=2, temperature=1.3, seed=5).choices for prompt in PROMPTS]
    assert [choice.text for choice in reply.choices] == [choice.text for two in again for choice in two]
    assert reply.usage.prompt_tokens == sum(len(with_bos(prompt)) for prompt in PROMPTS)


def test_a_long_list_of_prompts_needs_no_longer_queue(tiny):
    reply = complete(tiny, [f"prompt {n}" for n in range(150)], max_tokens=1)
    assert len(reply.choices) == 150 and tiny.idle()


@pytest.mark.parametrize("max_tokens", [0, 1, 4])
def test_echo_with_logprobs_scores_exactly_the_ids_that_were_sent(tiny, max_tokens):
    ids = [with_bos(prompt) for prompt in PROMPTS]
    reply = complete(tiny, ids, max_tokens=max_tokens, echo=True, logprobs=2)
    for choice, sent in zip(reply.choices, ids, strict=True):
        scores, wanted = choice.logprobs, log_probabilities(tiny, sent)
        assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None
        assert scores.token_logprobs[1 : len(sent)] == pytest.approx(wanted[1:], abs=1e-4)
        assert (
            len(scores.tokens)
            == len(scores.token_logprobs)
            == len(scores.text_offset)
            == len(sent) + max_tokens
        )
        for token, logprob, best in list(
            zip(scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True)
        )[1:]:
            assert max(best.values()) >= logprob and (token in best)
        assert choice.text.startswith(TOKENIZER.decode(sent))


def test_offsets_point_into_the_echoed_text(tiny):
    choice = complete(tiny, "grass é", max_tokens=0, echo=True, logprobs=0).choices[0]
    tokens, offsets = choice.logprobs.tokens, choice.logprobs.text_offset
    assert choice.text == "grass é" and tokens[0] == "<bos>" and offsets[:2] == [0, 0]
    said = [(token, choice.text[at : at + 1]) for token, at in zip(tokens[1:7], offsets[1:7], strict=True)]
    assert all(token == character for token, character in said)


def test_log_probabilities_come_without_echo_too(tiny):
    choice = complete(tiny, "The high", logprobs=1).choices[0]
    assert len(choice.logprobs.tokens) == 8
    assert complete(tiny, "The high").choices[0].logprobs is None


@pytest.mark.parametrize(
    "settings", [{}, {"echo": True, "logprobs": 1}, {"n": 2, "seed": 1, "temperature": 1}]
)
def test_the_stream_says_what_the_whole_reply_says(tiny, settings):
    whole = complete(tiny, PROMPTS, **settings)
    texts = [""] * len(whole.choices)
    scores, ends = [[] for _ in texts], [None] * len(texts)
    for chunk in complete(tiny, PROMPTS, stream=True, **settings):
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        scores[choice.index] += choice.logprobs.token_logprobs if choice.logprobs else []
        ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    for streamed, choice in zip(scores, whole.choices, strict=True):
        wanted = choice.logprobs.token_logprobs if choice.logprobs else []
        assert streamed[1:] == pytest.approx(wanted[1:], abs=1e-4) and len(streamed) == len(wanted)


def test_text_never_becomes_special_tokens(tiny):
    reply = complete(tiny, "<eot><start>", max_tokens=1)
    assert reply.usage.prompt_tokens == 1 + len("<eot><start>")
