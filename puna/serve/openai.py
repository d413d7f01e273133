"""What OpenAI's clients send, typed, and what it means to the engine.

A field we do not know is an error that names the nearest one we do, as at OpenAI: a misspelt `temprature`
must not be ignored. Fields of theirs that cannot change an answer here are taken and have no effect;
fields that would, and that we cannot honour, are refused unless they ask for what happens anyway (ONLY).
"""

import difflib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from puna.engine.request import Embed, Grammar, Request, Sampling
from puna.errors import RequestError
from puna.messages import messages_from_openai, tools_from_openai
from puna.serve.served import Served, Text
from puna.settings import Settings

MOST_CHOICES = 128  # of one prompt, as at OpenAI
MOST_REQUESTS = 2048  # prompts times choices of one call
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {  # field: (values that change nothing, why no others)
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


class NamedSchema(Body):
    """Of OpenAI's json_schema; an answer follows its schema, strict or not."""

    name: str
    schema_: dict[str, Any] | bool = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Body):
    """OpenAI's way to ask for JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class StructuredOutputs(Body):
    """vLLM's way to ask for a form, by one of these."""

    json_: dict[str, Any] | str | bool | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = Field(None, min_length=1)
    grammar: str | None = None
    json_object: bool | None = None


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
    structured_outputs: StructuredOutputs | None = None  # not OpenAI's
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
    response_format: ResponseFormat | None = None
    prediction: Prediction | None = None
    tool_choice: Any = None  # ONLY from here on
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


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    model: str
    input: Any  # as the prompt of a completion
    encoding_format: Literal["float", "base64"] | None = None  # float
    dimensions: int | None = Field(None, ge=1)
    pooling: Embed | None = None  # not OpenAI's; mean
    user: Any = None  # without effect


BODIES = (ChatBody, CompletionBody, EmbeddingBody, StreamOptions, ResponseFormat, StructuredOutputs)
KNOWN = sorted({field.alias or name for body in BODIES for name, field in body.model_fields.items()})


def chat_requests(body: ChatBody, served: Served) -> list[Request]:
    """One engine request for each choice. RequestError or DataError says which field is wrong."""
    _refuse(body)
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


def asked_form(body: Common) -> tuple[Grammar | None, str]:
    """What form the answer must have, and the field that says so."""
    asked = _response_form(body.response_format) if isinstance(body, ChatBody) else None
    listed = _listed_forms(body.structured_outputs)
    field = "response_format" if asked else "structured_outputs"
    need_field(len(listed) + bool(asked) <= 1, "structured_outputs", "one form is possible, not several")
    offers = isinstance(body, ChatBody) and body.offers_tools
    need_field(
        not offers or not (asked or listed), field, 'not together with tools\n  try: tool_choice "none"'
    )
    return asked or (listed[0] if listed else None), field


def _response_form(asked: ResponseFormat | None) -> Grammar | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return Grammar.of_schema({"type": "object"})
    need_field(asked.json_schema, "response_format.json_schema", "a name and a schema are needed")
    assert asked.json_schema is not None
    return Grammar.of_schema(asked.json_schema.schema_)


def _listed_forms(asked: StructuredOutputs | None) -> list[Grammar]:
    forms: list[Grammar] = []
    if asked is None:
        return forms
    if asked.json_ is not None:
        forms.append(
            Grammar("json", asked.json_) if isinstance(asked.json_, str) else Grammar.of_schema(asked.json_)
        )
    forms += [Grammar("regex", asked.regex)] if asked.regex is not None else []
    forms += [Grammar("grammar", asked.grammar)] if asked.grammar is not None else []
    forms += [Grammar.of_choices(asked.choice)] if asked.choice is not None else []
    return [*forms, Grammar.of_schema({"type": "object"})] if asked.json_object else forms


def completion_requests(body: CompletionBody, served: Served) -> list[Request]:
    """One engine request for each choice of each prompt, the choices of a prompt side by side."""
    _refuse(body)
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


def embedding_requests(body: EmbeddingBody, served: Served) -> list[Request]:
    """One engine request for each input."""
    adapter = adapter_of(body.model, served)
    width = served.engine.config.hidden_size
    need_field((body.dimensions or 1) <= width, "dimensions", f"the model's vectors have {width:,}")
    inputs = prompts(body.input, "input")
    need_field(len(inputs) <= MOST_REQUESTS, "input", f"more than {MOST_REQUESTS} inputs in one call")
    need_field(all(inputs), "input", "an empty text has no vector")
    each = (_ids(text, served.tokenizer) for text in inputs)
    return _checked(
        [Request(ids=ids, max_tokens=0, embed=body.pooling or "mean", adapter=adapter) for ids in each],
        served,
    )


def prompts(value: Any, param: str = "prompt") -> list[str | list[int]]:
    """The prompts of a completion, whichever of OpenAI's four forms they have."""
    if isinstance(value, str) or _all(value, int):
        return [value]
    good = isinstance(value, list) and value and (_all(value, str) or all(_all(each, int) for each in value))
    need_field(
        good, param, "a string, a list of strings, token ids, or a list of lists of token ids is needed"
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


def adapter_of(name: str, served: Served) -> str | None:
    """The adapter that this model stands for, None for the model itself; RequestError if there is neither."""
    if name == served.name:
        return None
    known = served.engine.adapters.names
    if name not in known:
        near = difflib.get_close_matches(name, (served.name, *known), n=1) or [served.name]
        said = f"model: there is no model {name!r} here\n  try: {near[0]!r}"
        raise RequestError(said, 404, "model_not_found", "model")
    return name


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
    """One request for each choice. What a grammar takes to compile, it takes here."""
    adapter = adapter_of(body.model, served)
    sampling, stop = _sampling(body, served.defaults), _stop(body.stop)
    grammar, field = asked_form(body)
    seeds: Sequence[int | None] = [None] * (body.n or 1)
    if sampling.seed is not None:  # choices must differ, and each stay the same
        seeds = [(sampling.seed + choice) % 2**63 for choice in range(body.n or 1)]
    settings = [sampling.model_copy(update={"seed": seed}) for seed in seeds]
    requests = [
        Request(sampling=each, stop=stop, grammar=grammar, adapter=adapter, **rest) for each in settings
    ]
    return _checked(requests, served, field)


def _checked(requests: list[Request], served: Served, form: str = "") -> list[Request]:
    """They can be served, each of them; `form` is the field that names their grammar."""
    try:
        for request in requests:
            served.engine.check(request)
    except RequestError as error:
        if error.param == "grammar":
            raise RequestError(f"{form}: {error}", code=error.code, param=form) from None
        raise
    return requests


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


def _refuse(body: Common) -> None:
    for name in type(body).model_fields.keys() & ONLY.keys():
        values, why = ONLY[name]
        if getattr(body, name) not in values:
            raise RequestError(
                f"{name}: {getattr(body, name)!r} is not supported: {why}", code="unsupported", param=name
            )
