"""What a client gets that asks for the wrong thing: OpenAI's error shape, the field, and what to try."""

import json

import httpx
import openai
import pytest
from conftest import site
from small_world import random_llama

from puna.engine.request import Sampling

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}

TOOLS = [{"type": "function", "function": {"name": "weather"}}]


def form(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}}


def post(site, body, path="/v1/chat/completions", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    return httpx.post(site.url + path, content=content, headers=headers)


def told(response, status=400):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize(
    "wrong, param, said",
    [
        ({"temprature": 1}, "temprature", "there is no such field\n  try: 'temperature'"),
        ({"nonsense_xyz": 1}, "nonsense_xyz", "there is no such field"),
        ({"stream_options": {"usage": True}}, "stream_options.usage", "there is no such field"),
        ({"temperature": "1.0"}, "temperature", "valid number"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 101}, "temperature", "less than or equal to 100"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_p": True}, "top_p", "valid number"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"max_tokens": -3}, "max_tokens", "greater than or equal to 0"),
        ({"max_completion_tokens": 5}, "max_tokens", "differs from max_completion_tokens"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 1000}, "n", "less than or equal to 128"),
        ({"stop": [""]}, "stop", "1 to 4,096 characters"),
        ({"stop": ["x"] * 17}, "stop", "at most 16"),
        ({"stop": "x" * 5000}, "stop", "1 to 4,096 characters"),
        ({"logit_bias": {"ten": 1}}, "logit_bias", "'ten' is no token id"),
        ({"logit_bias": {"99999": 1}}, None, "99999 is no token of this model"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "no token id"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_object' or 'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "a name and a schema"),
        (form({"not": {}}), "response_format", 'the JSON schema: Unimplemented keys: ["not"]'),
        (form({"type": "objekt"}), "response_format", "Invalid type: objekt"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs", "the regex: unclosed group"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "at least 1 item"),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", "try: 'regex'"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "one form"),
        ({**form({}), "structured_outputs": {"regex": "a"}}, "structured_outputs", "one form"),
        ({**form({}), "tools": TOOLS}, "response_format", "not together with tools"),
        ({"tools": [{"type": "function"}]}, None, "tools[0]"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "cannot be made to call"),
        ({"audio": {"voice": "x"}}, "audio", "only text is written"),
        ({"messages": []}, None, "at least one message"),
        ({"messages": "hi"}, "messages", "valid list"),
        ({"messages": ["hi"]}, "messages[0]", "valid dictionary"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, None, "messages[0].role: 'wizard'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None, "only text parts"),
    ],
)
def test_a_wrong_field_is_named_and_the_engine_left_alone(tiny, wrong, param, said):
    for stream in (False, True):
        error = told(post(tiny, {**ASK, "stream": stream, **wrong}))
        assert said in error["message"] and error["type"] == "invalid_request_error"
        assert error["param"] == param
    assert tiny.engine.running == 0


@pytest.mark.parametrize(
    "wrong, param, said",
    [
        ({"prompt": []}, "prompt", "a string, a list of strings"),
        ({"prompt": [[]]}, "prompt", "a string, a list of strings"),
        ({"prompt": [1, "two"]}, "prompt", "a string, a list of strings"),
        ({"prompt": [True]}, "prompt", "a string, a list of strings"),
        ({"prompt": {"a": 1}}, "prompt", "a string, a list of strings"),
        ({"prompt": [99999]}, None, "99999 is no token of this model"),
        ({"prompt": [-1]}, None, "-1 is no token of this model"),
        ({"prompt": ["x"] * 1000, "n": 3}, "prompt", "more than 2048 choices"),
        ({"prompt": "x", "suffix": "end"}, "suffix", "it does not fill in"),
        ({"prompt": "x", "best_of": 3}, "best_of", "use n"),
        ({"prompt": "x", "logprobs": True}, "logprobs", "valid integer"),
        ({"prompt": "x", "messages": []}, "messages", "no such field"),
        ({}, "prompt", "required"),
    ],
)
def test_a_wrong_completion_is_named_too(tiny, wrong, param, said):
    error = told(post(tiny, {"model": "tiny", **wrong}, "/v1/completions"))
    assert said in error["message"] and error["param"] == param and tiny.engine.running == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": NaN}',
        b'{"model": "\\ud800"}',
    ],
)
def test_a_malformed_body_is_an_error_of_the_clients(tiny, body):
    told(post(tiny, body))


def test_not_a_number_is_not_a_temperature(tiny):
    for word in (b"NaN", b"Infinity", b"1e999"):
        body = (
            json.dumps({**ASK, "temperature": 1})
            .encode()
            .replace(b'"temperature": 1', b'"temperature": ' + word)
        )
        assert told(post(tiny, body))["param"] == "temperature"


def test_half_a_character_harms_nobody(tiny):
    assert post(tiny, {**ASK, "messages": [{"role": "user", "content": "\ud800"}]}).status_code == 200
    error = told(post(tiny, {**ASK, "model": "\ud800"}), 404)
    assert "\ud800" in error["message"] or "ud800" in error["message"]


def test_a_body_that_is_not_sent_as_json_is_refused(tiny):
    error = told(post(tiny, ASK, **{"content-type": "text/plain"}))
    assert "Content-Type: application/json" in error["message"]


def test_the_openai_client_knows_our_errors(tiny):
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9' here") as caught:
        tiny.client.chat.completions.create(**{**ASK, "model": "gpt-9"})
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    long = [{"role": "user", "content": "x" * 3000}]
    with pytest.raises(openai.BadRequestError, match=r"3,0\d\d tokens") as caught:
        tiny.client.chat.completions.create(**{**ASK, "messages": long})
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="context of 2,048 is too short"):
        tiny.client.completions.create(model="tiny", prompt=["fine", "x" * 3000], stream=True)
    assert tiny.engine.running == 0


def test_wrong_addresses_and_methods_have_the_same_shape(tiny):
    assert "/v1/nothing" in told(httpx.get(tiny.url + "/v1/nothing"), 404)["message"]
    assert told(httpx.get(tiny.url + "/v1/completions"), 405)["type"] == "invalid_request_error"
    assert told(httpx.get(tiny.url + "/v1/models/a/b"), 404)["code"] == "model_not_found"


def test_models_and_health(tiny):
    (model,) = tiny.client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "puna")
    assert tiny.client.models.retrieve("tiny") == model
    assert httpx.get(tiny.url + "/health").json() == {"status": "ok"}


def test_a_full_queue_is_429_and_the_client_tries_again():
    with site(random_llama(262, context=2048), {"together": 1, "waiting": 1}) as small:
        ask = {**ASK, "max_tokens": 1800, "logit_bias": {"65": 100}, "stream": True}
        streams = [small.client.chat.completions.create(**ask)]
        next(streams[0])
        streams.append(small.client.chat.completions.create(**ask))
        with pytest.raises(openai.RateLimitError) as caught:
            small.client.chat.completions.create(**ask)
        assert caught.value.code == "queue_full" and caught.value.response.headers["retry-after"] == "1"
        with pytest.raises(openai.RateLimitError):
            small.client.chat.completions.create(**{**ask, "n": 2})
        for stream in streams:
            stream.close()
        assert small.idle()
        assert small.client.with_options(max_retries=2).chat.completions.create(**ASK).choices


def test_the_servers_defaults_draw_where_the_client_says_nothing():
    with site(random_llama(262), defaults=Sampling(temperature=0, repetition_penalty=1.3)) as here:
        silent, said = (
            here.client.chat.completions.create(**ASK, **more) for more in ({}, {"temperature": 0})
        )
        assert silent.choices[0].message.content == said.choices[0].message.content
