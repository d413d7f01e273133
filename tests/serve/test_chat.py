"""POST /v1/chat/completions with the real openai client."""

import asyncio
import json

import openai
import pytest
from conftest import CALL

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a puna?"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def chat(site, **rest):
    given = {"model": "tiny", "messages": ASK, "max_tokens": 12, "temperature": 0, **rest}
    return site.client.chat.completions.create(**given)


def test_an_answer_is_the_engines(polite):
    reply = chat(polite)
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "né€!",
        "stop",
    )
    assert reply.object == "chat.completion" and reply.model == "tiny" and choice.logprobs is None
    assert reply.usage.completion_tokens == 8  # né€! is seven bytes, and the stop token
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 8


@pytest.mark.parametrize(
    "settings", [{}, {"seed": 4, "temperature": 1.5}, {"n": 3, "seed": 9, "temperature": 1.2}]
)
def test_the_stream_says_what_the_whole_reply_says(tiny, settings):
    whole = chat(tiny, **settings)
    texts, ends, roles = {}, {}, []
    for chunk in chat(tiny, stream=True, **settings):
        (choice,) = chunk.choices
        assert chunk.object == "chat.completion.chunk"
        roles.append(choice.delta.role)
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    n = settings.get("n", 1)
    assert roles[:n] == ["assistant"] * n and not any(roles[n:])
    assert [texts[i] for i in range(n)] == [choice.message.content for choice in whole.choices]
    assert [ends[i] for i in range(n)] == [choice.finish_reason for choice in whole.choices] == ["length"] * n
    assert len(set(texts.values())) == n


def test_usage_comes_last_in_a_stream_where_asked_for(tiny):
    *before, last = chat(tiny, stream=True, n=2, stream_options={"include_usage": True})
    assert all(chunk.usage is None for chunk in before) and last.choices == []
    whole = chat(tiny, n=2).usage
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (whole.prompt_tokens, 24)


def test_a_second_turn_does_not_read_the_first_again(polite):
    first = chat(polite)
    turns = [*ASK, {"role": "assistant", "content": first.choices[0].message.content}]
    usage = chat(polite, messages=[*turns, {"role": "user", "content": "And?"}]).usage
    assert usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens


def test_log_probabilities_stand_beside_each_token(tiny):
    plain = {str(id): -100 for id in tiny.tokenizer.special.values()}  # specials have bytes and no text
    wanted = {"logprobs": True, "top_logprobs": 3, "logit_bias": plain}
    whole = chat(tiny, **wanted).choices[0]
    said = whole.logprobs.content
    assert len(said) == 12 and all(len(token.top_logprobs) == 3 for token in said)
    assert bytes(b for token in said for b in token.bytes).decode(errors="replace") == whole.message.content
    assert all(token.logprob <= token.top_logprobs[0].logprob <= 0 for token in said)
    chunks = [c.choices[0].logprobs for c in chat(tiny, stream=True, **wanted)]
    streamed = [token for scores in chunks if scores for token in scores.content]
    assert [t.token for t in streamed] == [t.token for t in said]
    assert [t.logprob for t in streamed] == pytest.approx([t.logprob for t in said], abs=1e-4)


def test_stop_strings_stop(polite):
    assert chat(polite, stop="€").choices[0].message.content == "né"
    cut = chat(polite, stop=["never", "é€"])
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("n", "stop")
    streamed = "".join(c.choices[0].delta.content or "" for c in chat(polite, stop="é€", stream=True))
    assert streamed == "n"


def test_max_completion_tokens_is_the_newer_name(polite):
    reply = chat(polite, max_tokens=openai.omit, max_completion_tokens=1)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("n", "length")


def test_every_way_to_draw_reaches_the_engine(tiny):
    def drawn(**settings):
        return (
            chat(tiny, **{"temperature": 1.0, "seed": 3, "max_tokens": 24, **settings})
            .choices[0]
            .message.content
        )

    plain = drawn()
    assert drawn() == plain != drawn(seed=4)
    greedy = drawn(temperature=0)
    assert drawn(top_p=1e-9) == drawn(extra_body={"top_k": 1}) == drawn(extra_body={"min_p": 1.0}) == greedy
    assert drawn(temperature=0, extra_body={"repetition_penalty": 5.0}) != greedy
    assert drawn(presence_penalty=2.0, frequency_penalty=2.0) != plain
    assert drawn(logit_bias={str(ord("~")): 100}) == "~" * 24


def test_a_reply_that_calls_a_tool_says_so(caller):
    choice = chat(caller, tools=TOOLS, tool_choice="auto").choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Lima"}
    assert call.id and call.type == "function"
    deltas = [chunk.choices[0] for chunk in chat(caller, tools=TOOLS, stream=True)]
    (streamed,) = [c.delta.tool_calls[0] for c in deltas if c.delta.tool_calls]
    assert (streamed.index, streamed.function.arguments) == (0, call.function.arguments)
    assert deltas[-1].finish_reason == "tool_calls" and not any(c.delta.content for c in deltas)


def test_a_call_may_begin_with_its_special_token(tagger):
    choice = chat(tagger, tools=TOOLS).choices[0]
    assert choice.message.tool_calls[0].function.name == "weather" and choice.message.content is None
    other = [{"type": "function", "function": {"name": "clock"}}]
    for offered in ({}, {"tools": other}):
        plain = chat(tagger, **offered).choices[0]
        assert (plain.message.content, plain.finish_reason) == (CALL, "stop")


def test_prose_streams_where_tools_are_offered(polite):
    texts = [c.choices[0].delta.content for c in chat(polite, tools=TOOLS, stream=True)]
    assert len([text for text in texts if text]) > 1 and "".join(filter(None, texts)) == "né€!"


def test_a_tools_answer_can_be_sent_back(caller):
    call = chat(caller, tools=TOOLS).choices[0].message
    answer = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "12 °C"}
    assert chat(caller, messages=[*ASK, call.model_dump(exclude_none=True), answer], tools=TOOLS).choices


def test_without_an_offer_there_is_no_call(caller, polite):
    for offered in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = chat(caller, **offered).choices[0]
        assert choice.message.tool_calls is None and choice.message.content.startswith('{"name": "weather"')
    other = [{"type": "function", "function": {"name": "clock"}}]
    assert chat(caller, tools=other).choices[0].finish_reason == "stop", "only what was offered can be called"
    assert chat(polite, tools=TOOLS).choices[0].message.content == "né€!"


def test_the_async_client_gets_many_answers_at_once(tiny):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{tiny.url}/v1", api_key="any", max_retries=0) as client:

            async def ask(seed, stream):
                given = {"model": "tiny", "messages": ASK, "seed": seed, "max_tokens": 20, "stream": stream}
                reply = await client.chat.completions.create(**given)
                if not stream:
                    return reply.choices[0].message.content
                return "".join([chunk.choices[0].delta.content or "" async for chunk in reply])

            return await asyncio.gather(
                *(ask(seed, stream) for seed in range(12) for stream in (False, True))
            )

    texts = asyncio.run(ask_all())
    assert texts[::2] == texts[1::2] and len(set(texts)) == 12
    alone = [
        chat(tiny, seed=seed, max_tokens=20, temperature=1.0).choices[0].message.content for seed in range(12)
    ]
    assert alone == texts[::2] and tiny.idle()


def test_a_client_that_hangs_up_frees_the_engine(tiny):
    stream = chat(tiny, stream=True, max_tokens=1800, logit_bias={"65": 100}, n=2)
    for _ in range(6):
        next(stream)
    assert tiny.engine.running == 2
    stream.close()
    assert tiny.idle(seconds=2)
    with pytest.raises(openai.APITimeoutError):
        chat(tiny, max_tokens=1800, logit_bias={"65": 100}, n=2, timeout=0.3)
    assert tiny.idle(seconds=2)


def test_a_failure_in_the_engine_is_the_servers_fault(tiny):
    weight = tiny.engine.runner.model.model.embed_tokens.weight
    before = weight[ord("~")].clone()
    weight[ord("~")] = float("nan")
    try:
        broken = [{"role": "user", "content": "~"}]
        with pytest.raises(openai.InternalServerError, match="weights may be damaged") as caught:
            chat(tiny, messages=broken)
        assert caught.value.status_code == 500 and caught.value.code == "engine_error"
        with pytest.raises(openai.APIError, match="weights may be damaged"):
            list(chat(tiny, messages=broken, stream=True))
    finally:
        weight[ord("~")] = before
    assert chat(tiny).choices[0].finish_reason == "length"
