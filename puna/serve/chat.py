"""POST /v1/chat/completions, the answering half: events become one reply or a stream of chunks.

Where tools are offered, text is sent once it can no longer be the beginning of a call; a call is sent whole.
"""

from collections.abc import AsyncIterator
from typing import Any

from puna.engine.request import Event, TokenScore
from puna.messages import Call, tools_from_openai
from puna.serve.openai import ChatBody
from puna.serve.replies import Answer, Envelope, Json, calls_to_openai, chat_scores, usage_to_openai
from puna.serve.served import Running
from puna.tokenizer.tools import PYTHON_TAG, CallStream


class Choice:
    """One choice as its events come; only tools that were offered can be called."""

    def __init__(self, body: ChatBody, running: Running, index: int):
        self.answer = Answer(running.requests[index].stop_ids)
        self.tokenizer, self.scored = running.served.tokenizer, bool(body.logprobs)
        offered = tools_from_openai(body.tools) if body.offers_tools else []
        self.stream = CallStream({tool.name for tool in offered})
        self.tag = self.tokenizer.specials.get(PYTHON_TAG) if offered else None
        self.tagged = False  # the reply begins with the one special token that means something: a call comes
        self.content = ""
        self.calls: tuple[Call, ...] = ()

    def add(self, event: Event) -> tuple[str, Json | None]:
        """The content and the scores that are new."""
        if not self.answer.ids and event.ids[:1] == (self.tag,):
            self.tagged = True
            self.stream.feed(PYTHON_TAG)
        scores, text = self.answer.add(event), self.stream.feed(event.text)
        if event.finish:
            rest, self.calls = self.stream.finish()
            text += rest.removeprefix(PYTHON_TAG) if self.tagged else rest
        self.content += text
        return text, self.scores(scores) if scores else None

    def scores(self, scores: list[TokenScore]) -> Json | None:
        return chat_scores(scores, self.tokenizer) if self.scored else None

    @property
    def finish(self) -> str:
        return "tool_calls" if self.calls else self.answer.finish


async def reply(body: ChatBody, running: Running) -> Json:
    """The whole reply, once all choices have ended."""
    choices = _choices(body, running)
    async for index, event in running.events():
        choices[index].add(event)
    said = [_whole(index, choice) for index, choice in enumerate(choices)]
    return Envelope("chat.completion", "chatcmpl", body.model).reply(said, _usage(body, choices))


async def chunks(body: ChatBody, running: Running) -> AsyncIterator[Json]:
    """The role of every choice, its text as it comes, how it ended; at last the usage, where asked for."""
    envelope = Envelope("chat.completion.chunk", "chatcmpl", body.model)
    choices = _choices(body, running)

    def chunk(index: int, delta: Json, finish: str | None = None, scores: Any = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return envelope.chunk(choice, body.wants_usage)

    for index in range(len(choices)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, event in running.events():
        choice = choices[index]
        text, scores = choice.add(event)
        if text or scores:
            yield chunk(index, {"content": text}, scores=scores)
        if choice.calls:
            numbered = [{"index": n, **call} for n, call in enumerate(calls_to_openai(choice.calls))]
            yield chunk(index, {"tool_calls": numbered})
        if event.finish:
            yield chunk(index, {}, choice.finish)
    if body.wants_usage:
        yield envelope.usage_chunk(_usage(body, choices))


def _choices(body: ChatBody, running: Running) -> list[Choice]:
    return [Choice(body, running, index) for index in range(len(running.requests))]


def _whole(index: int, choice: Choice) -> Json:
    message: Json = {"role": "assistant", "content": choice.content, "refusal": None}
    if choice.calls:
        message |= {"content": choice.content or None, "tool_calls": calls_to_openai(choice.calls)}
    scores = choice.scores(choice.answer.scores)
    return {"index": index, "message": message, "logprobs": scores, "finish_reason": choice.finish}


def _usage(body: ChatBody, choices: list[Choice]) -> Json:
    usages = [choice.answer.usage for choice in choices]
    return usage_to_openai(usages, len(choices), predicted=body.prediction is not None)
