"""Answers of a form that the client asks for, over HTTP with the real openai client; the model is random."""

import asyncio
import json
import re
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

ASK = [{"role": "user", "content": "Which animal?"}]
GBNF = 'root ::= pair ("," pair)?\npair ::= [a-z] "=" [0-9]'


class Animal(BaseModel, extra="forbid"):
    name: str = Field(max_length=12)
    legs: int = Field(ge=0, le=8)
    wool: Literal["white", "brown"] | None


def form(model):
    schema = {"name": "animal", "schema": model.model_json_schema(), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def chat(site, **rest):
    given = {"model": "tiny", "messages": ASK, "max_tokens": 500, "temperature": 1.0, "seed": 1, **rest}
    return site.client.chat.completions.create(**given)


@pytest.mark.parametrize("temperature", [0, 0.7, 1.5])
def test_a_schema_is_followed_by_every_choice_streamed_or_not(tiny, temperature):
    settings = {"n": 6, "temperature": temperature, "response_format": form(Animal)}
    reply = chat(tiny, **settings)
    assert [choice.finish_reason for choice in reply.choices] == ["stop"] * 6
    for choice in reply.choices:
        Animal.model_validate_json(choice.message.content)
    streamed = dict.fromkeys(range(6), "")
    for chunk in chat(tiny, stream=True, **settings):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == {choice.index: choice.message.content for choice in reply.choices}


def test_the_clients_own_types_come_back(tiny):
    reply = tiny.client.chat.completions.parse(model="tiny", messages=ASK, seed=2, response_format=Animal)
    assert isinstance(reply.choices[0].message.parsed, Animal)


def test_any_object_is_an_object(tiny):
    bias = {str(ord("}")): 8, str(ord('"')): 4}
    reply = chat(tiny, n=8, response_format={"type": "json_object"}, logit_bias=bias)
    ended = [choice.message.content for choice in reply.choices if choice.finish_reason == "stop"]
    assert len(ended) > 4 and all(isinstance(json.loads(text), dict) for text in ended)
    assert chat(tiny, response_format={"type": "text"}, max_tokens=4).choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        ({"regex": r"[0-9]{2}-(é|ñ)+x"}, r"[0-9]{2}-(é|ñ)+x"),
        ({"choice": ["yes", "yes, indeed", 'no "way"', "quizá\n"]}, 'yes(, indeed)?|no "way"|quizá\n'),
        ({"grammar": GBNF}, "[a-z]=[0-9](,[a-z]=[0-9])?"),
        ({"json": {"type": "array", "items": {"enum": [1, "b"]}, "maxItems": 2}}, r'\[\s*((1|"b")\s*,?\s*){0,2}\]'),
        ({"json": '{"type": "boolean"}'}, "true|false"),
    ],
)  # fmt: skip
def test_every_kind_of_form_is_kept_by_chats_and_completions(tiny, outputs, pattern):
    texts = [
        choice.message.content
        for choice in chat(tiny, n=12, extra_body={"structured_outputs": outputs}).choices
    ]
    plain = {"model": "tiny", "prompt": "It is", "max_tokens": 300, "temperature": 1.0, "seed": 3, "n": 12}
    reply = tiny.client.completions.create(**plain, extra_body={"structured_outputs": outputs})
    texts += [choice.text for choice in reply.choices]
    assert len(set(texts)) > 1 and all(re.fullmatch(pattern, text) for text in texts), texts


def test_log_probabilities_are_the_models_own_whatever_is_allowed(tiny):
    outputs = {"structured_outputs": {"regex": "[ab]{6}"}}
    (choice,) = chat(tiny, logprobs=True, top_logprobs=3, extra_body=outputs).choices
    (free,) = chat(tiny, logprobs=True, top_logprobs=3, max_tokens=1).choices
    assert "".join(score.token for score in choice.logprobs.content) == choice.message.content
    first, other = choice.logprobs.content[0], free.logprobs.content[0]
    assert first.top_logprobs == other.top_logprobs and {best.token for best in first.top_logprobs} - {
        "a",
        "b",
    }


def test_many_clients_at_once_each_get_their_own_form(tiny):
    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{tiny.url}/v1", api_key="any", max_retries=0) as client:

            async def ask(index):
                outputs = {"regex": f"({index}[xy])+!"}
                given = {"model": "tiny", "messages": ASK, "seed": index, "max_tokens": 200}
                reply = await client.chat.completions.create(
                    **given, extra_body={"structured_outputs": outputs}
                )
                return re.fullmatch(outputs["regex"], reply.choices[0].message.content)

            return await asyncio.gather(*map(ask, range(24)))

    assert all(asyncio.run(ask_all()))
