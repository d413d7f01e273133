"""What OpenAI's clients send, typed, and what it means to the engine.

A field we do not know is an error that names the nearest one we do, as at OpenAI: a misspelt `temprature`
must not be ignored. Fields of theirs that cannot change an answer here are taken and have no effect;
fields that would, and that we cannot honour, are refused unless they ask for what happens anyway (ONLY).
"""

import difflib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from puna.engine.request import Request, Sampling
from puna.errors import RequestError
from puna.messages import messages_from_openai, tools_from_openai
from puna.serve.served import Served, Text
from puna.settings import Settings

MOST_CHOICES = 128  # of one prompt, as at OpenAI
MOST_REQUESTS = 2048  # prompts times choices of one call
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {  # field: (values that change nothing, why no others)
    "response_format": ((None, {"type": "text"}), "only plain text is written yet"),
    "tool_choice": ((None, "auto", "none"), "the model cannot be made to call a tool yet"),
    "parallel_tool_calls": ((None, True), "how many calls the model makes is its own choice"),
    "modalities": ((None, ["text"]), "only text is written"),
    "audio": ((None,), "only text is written"),
    "functions": ((None, []), "use tools"),
    "function_call": ((None, "auto", "none"), "use tool_choice"),
    "reasoning_effort": ((None, "none"), "this model does not reason apart from its answer"),
    "web_search_options": ((None,), "there is no web search here"),
    "suffix": ((None, ""), "this model completes; it does not fill in"),
    "best_of": ((None, 1), "use n and choose by logprobs"),
}


class Body(Settings):
    """Strict: a number in quotes is no number. null means not given, as at OpenAI."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # padding against eavesdroppers; none is added


class TextPart(Body):
    type: Literal["text"]
    text: str


class Prediction(Body):
    """What the client expects the answer to be like; it changes how soon it is written, never what."""

    type: Literal["content"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        content = self.content
        return content if isinstance(content, str) else "".join(part.text for part in content)


class Common(Body):
    """What both endpoints take."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, ge=-1)  # not OpenAI's; -1 and 0: no limit
    min_p: float | None = None  # not OpenAI's
    repetition_penalty: float | None = None  # not OpenAI's
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    stop: str | list[str] | None = None
    max_tokens: int | None = Field(None, ge=0)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Any = None  # without effect, from here on
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatBody(Common):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    max_completion_tokens: int | None = Field(None, ge=0)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    prediction: Prediction | None = None
    response_format: Any = None  # ONLY from here on
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    modalities: Any = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    reasoning_effort: Any = None
    web_search_options: Any = None

    @property
    def offers_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"


class CompletionBody(Common):
    """POST /v1/completions."""

    prompt: Any  # a string, strings, token ids, or lists of token ids
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    suffix: Any = None  # ONLY from here on
    best_of: Any = None


KNOWN = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, *StreamOptions.model_fields})


def chat_requests(body: ChatBody, served: Served) -> list[Request]:
    """One engine request for each choice. RequestError or DataError says which field is wrong."""
    _refuse(body, served)
    most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    need_field(
        body.max_tokens in (None, most), "max_tokens", "differs from max_completion_tokens: send one of them"
    )
    need_field(body.logprobs or not body.top_logprobs, "top_logprobs", "needs logprobs: true")
    messages = messages_from_openai(body.messages)
    tools = tools_from_openai(body.tools)
    ids = tuple(served.template.render(messages, tools if body.offers_tools else []).ids)
    return _choices(
        body,
        served,
        ids=ids,
        max_tokens=most,
        stop_ids=frozenset(served.template.stop_ids),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        prediction=tuple(served.tokenizer.encode(body.prediction.text)) if body.prediction else (),
    )


def completion_requests(body: CompletionBody, served: Served) -> list[Request]:
    """One engine request for each choice of each prompt, the choices of a prompt side by side."""
    _refuse(body, served)
    requests: list[Request] = []
    for prompt in prompts(body.prompt):
        requests += _choices(
            body,
            served,
            ids=_ids(prompt, served.tokenizer),
            max_tokens=16 if body.max_tokens is None else body.max_tokens,  # 16: OpenAI's default here
            stop_ids=frozenset(served.tokenizer.stop_ids),
            logprobs=body.logprobs,
            prompt_logprobs=bool(body.echo) and body.logprobs is not None,
        )
        need_field(len(requests) <= MOST_REQUESTS, "prompt", f"more than {MOST_REQUESTS} choices in one call")
    return requests


def prompts(value: Any) -> list[str | list[int]]:
    """The prompts of a completion, whichever of OpenAI's four forms they have."""
    if isinstance(value, str) or _all(value, int):
        return [value]
    good = isinstance(value, list) and value and (_all(value, str) or all(_all(each, int) for each in value))
    need_field(
        good, "prompt", "a string, a list of strings, token ids, or a list of lists of token ids is needed"
    )
    return list(value)


def invalid(errors: Sequence[Any]) -> RequestError:
    """The first of pydantic's complaints about a body, in OpenAI's terms."""
    kind, where = errors[0]["type"], [part for part in errors[0]["loc"] if part != "body"]
    if kind == "json_invalid":
        return RequestError(f"the body is not JSON: {errors[0]['ctx']['error']} at character {where[0]}")
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)[1:]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), KNOWN, n=1)
        hint = f"\n  try: {near[0]!r}" if near else ""
        return RequestError(f"{param}: there is no such field{hint}", code="unknown_field", param=param)
    if not param:
        return RequestError("a JSON object is needed, sent with Content-Type: application/json")
    return RequestError(f"{param}: {errors[0]['msg']}", param=param)


def need_model(name: str, served: Served) -> None:
    if name != served.name:
        said = f"model: there is no model {name!r} here\n  try: {served.name!r}"
        raise RequestError(said, 404, "model_not_found", "model")


def need_field(condition: object, param: str, problem: str) -> None:
    if not condition:
        raise RequestError(f"{param}: {problem}", param=param)


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is kind for item in value)


def bos_before(prompt: str | list[int], tokenizer: Text) -> tuple[int, ...]:
    """The BOS that goes before a prompt that is text; token ids are taken as they are."""
    if not isinstance(prompt, str) or not tokenizer.adds_bos or tokenizer.bos_id is None:
        return ()
    return (tokenizer.bos_id,)


def _ids(prompt: str | list[int], tokenizer: Text) -> tuple[int, ...]:
    """Text is text: it never becomes special tokens."""
    written = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    return (*bos_before(prompt, tokenizer), *written)


def _choices(body: Common, served: Served, **rest: Any) -> list[Request]:
    sampling, stop = _sampling(body, served.defaults), _stop(body.stop)
    seeds: Sequence[int | None] = [None] * (body.n or 1)
    if sampling.seed is not None:  # choices must differ, and each stay the same
        seeds = [(sampling.seed + choice) % 2**63 for choice in range(body.n or 1)]
    return [Request(sampling=sampling.model_copy(update={"seed": seed}), stop=stop, **rest) for seed in seeds]


def _sampling(body: Common, defaults: Sampling) -> Sampling:
    given = {name: getattr(body, name) for name in Sampling.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    if "seed" in given:
        given["seed"] %= 2**63
    if "top_k" in given:
        given["top_k"] = max(0, given["top_k"])
    if "logit_bias" in given:
        for id in given["logit_bias"]:
            need_field(
                id.isascii() and id.isdigit() and len(id) < 10, "logit_bias", f"{id[:40]!r} is no token id"
            )
        given["logit_bias"] = {int(id): bias for id, bias in given["logit_bias"].items()}
    try:
        return Sampling.model_validate({**defaults.model_dump(), **given})
    except ValidationError as failure:
        raise invalid(failure.errors()) from None


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    need_field(len(strings) <= 16, "stop", "at most 16 strings")
    need_field(all(0 < len(string) <= 4096 for string in strings), "stop", "strings of 1 to 4,096 characters")
    return strings


def _refuse(body: Common, served: Served) -> None:
    need_model(body.model, served)
    for name in type(body).model_fields.keys() & ONLY.keys():
        values, why = ONLY[name]
        if getattr(body, name) not in values:
            raise RequestError(
                f"{name}: {getattr(body, name)!r} is not supported: {why}", code="unsupported", param=name
            )
