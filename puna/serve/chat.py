"""POST /v1/chat/completions, the answering half: events become one reply or a stream of chunks.

Where tools are offered a reply may turn out to be a call, which only its end can tell; such a reply is
sent in one piece.
"""

from collections.abc import AsyncIterator
from typing import Any

from puna.engine.request import TokenScore
from puna.messages import tools_from_openai
from puna.serve.openai import ChatBody
from puna.serve.replies import Answer, Envelope, Json, calls_of, chat_scores, usage_to_openai
from puna.serve.served import Running


async def reply(body: ChatBody, running: Running) -> Json:
    """The whole reply, once all choices have ended."""
    answers = _answers(running)
    async for index, event in running.events():
        answers[index].add(event)
    choices = [_choice(body, running, index, answer) for index, answer in enumerate(answers)]
    usage = usage_to_openai([answer.usage for answer in answers], len(answers))
    return Envelope("chat.completion", "chatcmpl", running.served).reply(choices, usage)


async def chunks(body: ChatBody, running: Running) -> AsyncIterator[Json]:
    """The role of every choice, its text as it comes, how it ended; at last the usage, where asked for."""
    envelope = Envelope("chat.completion.chunk", "chatcmpl", running.served)
    answers = _answers(running)

    def chunk(index: int, delta: Json, finish: str | None = None, scores: Any = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": finish}
        return envelope.chunk(choice, body.wants_usage)

    for index in range(len(answers)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, event in running.events():
        answer = answers[index]
        scores = answer.add(event)
        if not body.offers_tools and (event.text or (body.logprobs and scores)):
            yield chunk(index, {"content": event.text}, scores=_scores(body, running, scores))
        if event.finish:
            delta, finish = _ended(body, running, answer)
            if delta:
                yield chunk(index, delta, scores=_scores(body, running, answer.scores))
            yield chunk(index, {}, finish)
    if body.wants_usage:
        yield envelope.usage_chunk(usage_to_openai([answer.usage for answer in answers], len(answers)))


def _answers(running: Running) -> list[Answer]:
    return [Answer(request.stop_ids) for request in running.requests]


def _choice(body: ChatBody, running: Running, index: int, answer: Answer) -> Json:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    finish = answer.finish
    if body.offers_tools and (calls := _calls(body, running, answer)):
        finish = "tool_calls"
        message.update(calls)
    scores = _scores(body, running, answer.scores)
    return {"index": index, "message": message, "logprobs": scores, "finish_reason": finish}


def _ended(body: ChatBody, running: Running, answer: Answer) -> tuple[Json, str]:
    """What is still to be said at the end of a streamed choice, and its finish reason."""
    if not body.offers_tools:
        return {}, answer.finish
    if calls := _calls(body, running, answer):
        numbered = [{"index": index, **call} for index, call in enumerate(calls["tool_calls"])]
        return {**calls, "tool_calls": numbered}, "tool_calls"
    return {"content": answer.text}, answer.finish


def _calls(body: ChatBody, running: Running, answer: Answer) -> Json | None:
    """The reply as tool calls, if it is any: only tools that were offered can be called."""
    offered = {tool.name for tool in tools_from_openai(body.tools)}
    message = running.served.template.parse(answer.ids, offered)
    if not message.calls:
        return None
    return {"content": message.content or None, "tool_calls": calls_of(message)}


def _scores(body: ChatBody, running: Running, scores: list[TokenScore]) -> Json | None:
    return chat_scores(scores, running.served.tokenizer) if body.logprobs else None
