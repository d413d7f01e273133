"""POST /v1/completions, the answering half: continuation, the prompt echoed and scored where asked for."""

from collections.abc import AsyncIterator

from puna.engine.request import Event
from puna.serve.openai import CompletionBody, bos_before, prompts
from puna.serve.replies import Answer, CompletionScores, Envelope, Json, joined, usage_to_openai
from puna.serve.served import Running


class Choice:
    """One continuation as it comes; `add` gives the text and scores that are new, the prompt's first."""

    def __init__(self, body: CompletionBody, running: Running, index: int):
        tokenizer, self.request = running.served.tokenizer, running.requests[index]
        self.answer = Answer(self.request.stop_ids)
        self.scores = CompletionScores(tokenizer) if body.logprobs is not None else None
        prompt = prompts(body.prompt)[index // (body.n or 1)]
        self.silent = bos_before(prompt, tokenizer)
        self.echo = ""
        if body.echo:
            self.echo = prompt if isinstance(prompt, str) else tokenizer.decode(prompt)
        self.fresh = True

    def add(self, event: Event) -> tuple[str, list[Json]]:
        scores, text, said = self.answer.add(event), event.text, []
        if self.scores and event.prompt_scores:
            said.append(self.scores.prompt(self.request.ids, event.prompt_scores, len(self.silent)))
        if self.scores and scores:
            said.append(self.scores.written(scores, event))
        if self.fresh:
            text, self.fresh = self.echo + text, False
        return text, said


async def reply(body: CompletionBody, running: Running) -> Json:
    """The whole reply, once all choices have ended."""
    choices = [Choice(body, running, index) for index in range(len(running.requests))]
    texts: list[str] = [""] * len(choices)
    scores: list[list] = [[] for _ in choices]
    async for index, event in running.events():
        text, said = choices[index].add(event)
        texts[index] += text
        scores[index] += said
    ended = [
        _choice(index, texts[index], scores[index], choice.answer.finish)
        for index, choice in enumerate(choices)
    ]
    usage = usage_to_openai([choice.answer.usage for choice in choices], body.n or 1)
    return Envelope("text_completion", "cmpl", body.model).reply(ended, usage)


async def chunks(body: CompletionBody, running: Running) -> AsyncIterator[Json]:
    """Text as it comes, the echo first; the last piece of a choice says how it ended."""
    envelope = Envelope("text_completion", "cmpl", body.model)
    choices = [Choice(body, running, index) for index in range(len(running.requests))]
    async for index, event in running.events():
        text, said = choices[index].add(event)
        if text or said or event.finish:
            yield envelope.chunk(_choice(index, text, said, event.finish), body.wants_usage)
    if body.wants_usage:
        usages = [choice.answer.usage for choice in choices]
        yield envelope.usage_chunk(usage_to_openai(usages, body.n or 1))


def _choice(index: int, text: str, scores: list[Json], finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": joined(scores), "finish_reason": finish}
