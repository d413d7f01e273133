"""One request on its way through the engine: what it has read, written and still holds back."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

import numpy as np

from puna.engine.grammar import Guide, Words
from puna.engine.request import Event, Finish, Request, TokenScore, Usage
from puna.engine.sample import Sampler, need_finite, score
from puna.engine.scheduler import Work
from puna.engine.stop import Stops
from puna.errors import PunaError, need


class TextStream(Protocol):
    """Ids to text, never half a character."""

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class Vocabulary(Words, Protocol):
    """What the engine wants of a tokenizer."""

    def stream(self, special: bool = False) -> TextStream: ...


class Said:
    """What one step lets a request say, token by token."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.texts: list[str] = []
        self.scores: list[TokenScore] = []

    def event(self, prompt_scores: tuple[TokenScore | None, ...]) -> Event:
        starts = tuple(accumulate((len(text) for text in self.texts[:-1]), initial=0))
        return Event(tuple(self.ids), "".join(self.texts), tuple(self.scores), starts, prompt_scores)


class Task:
    """The engine's side of a request. Only the engine's thread changes it, save for `cancelled`."""

    def __init__(
        self,
        request: Request,
        deliver: Callable[[Event], None],
        context: int,
        tokenizer: Vocabulary,
        size: int,
        guide: Guide | None = None,
    ):
        self.request, self.deliver = request, deliver
        scored = 1 if request.prompt_logprobs else None  # nothing comes before the first token
        pooled = {None: None, "mean": 0, "last": len(request.ids) - 1}[request.embed]
        self.work = Work(request.id, list(request.ids), request.priority, scored, pooled)
        self.ids = self.work.ids  # prompt and answer
        room = context - len(request.ids)
        self.limit = room if request.max_tokens is None else min(request.max_tokens, room)
        self.size = size  # of the vocabulary that may be written
        self.sampler = Sampler(request.sampling, request.ids, size)
        self.guide = guide
        self.ends = request.stop_ids | frozenset(tokenizer.stop_ids if guide else ())
        self.text = tokenizer.stream(special=request.special_text)
        self.stops = Stops(request.stop)
        self.cancelled = False
        self.prompt_scores: list[TokenScore | None] = [None]  # nothing comes before the first token
        self.told_prompt = not request.prompt_logprobs
        self.states, self.pooled = np.zeros(0), 0  # the sum of so many hidden states, in float64
        self.guessed = self.accepted = 0  # tokens, of all steps
        self.submitted = time.monotonic()
        self.first_token_s = 0.0

    def cancel(self) -> None:
        """From any thread: the engine ends this request before its next step."""
        self.cancelled = True

    @property
    def is_done(self) -> bool:
        """Whether nothing needs to be read: nothing is to be written, and the prompt's scores are there."""
        return (
            self.limit == 0 and self.work.pooled is None and self.work.scored in (None, len(self.request.ids))
        )

    def take(self, rows: np.ndarray, first: int) -> Event | None:
        """Logits (rows, V) of the positions from `first` on, up to the last that was read: score, write."""
        if self.work.scored is not None:
            following = self.request.ids[first + 1 : first + 1 + len(rows)]
            for row, id in zip(rows, following, strict=False):
                need_finite(row)
                self.prompt_scores.append(score(row, id, self.request.logprobs or 0, self.size))
            self.work.scored = len(self.prompt_scores)
        if self.is_done:
            return self.last_event("length")
        last = len(self.ids) - 1 - first  # the row of the last id; those of guesses follow
        return self.write(rows[last:]) if last < len(rows) else None

    def pool(self, states: np.ndarray) -> Event | None:
        """The next hidden states (rows, D) that are asked for; after the last one their mean.

        Added one by one: the sum does not depend on how the prompt was cut, to the last bit.
        """
        assert self.work.pooled is not None
        if not self.pooled:
            self.states = np.zeros(states.shape[1])
        for row in states:
            self.states += row
        self.pooled += len(states)
        self.work.pooled += len(states)
        if self.work.pooled < len(self.ids):
            return None
        mean = (self.states / self.pooled).astype(np.float32)
        need(np.isfinite(mean).all(), "the hidden states are not finite: the weights may be damaged")
        return self.last_event("length", Event(embedding=mean))

    def write(self, rows: np.ndarray) -> Event:
        """Choose a token by the first of these logits (rows, V), and by the next while a guess was right.

        Rows are what they would be without guesses, and so are choices: guesses change when, never what.
        """
        guess, self.work.guess = self.work.guess, []
        said, ended = Said(), None
        for row, guessed in zip(rows, (*guess, None), strict=True):
            try:
                ended = self._write(row, said)
            except PunaError:
                if not said.ids:
                    raise
                break  # what came before is told first; the next step meets this row again
            if ended or said.ids[-1] != guessed:
                break
        self.guessed, self.accepted = self.guessed + len(guess), self.accepted + len(said.ids) - 1
        event = said.event(self._prompt_scores())
        return self.last_event(ended, event) if ended else event

    def _write(self, logits: np.ndarray, said: "Said") -> Finish | None:
        """Choose a token by these logits (V,) and say it; how the answer ends with it, if it does."""
        id = self.choose(logits[: self.size])
        stopped = id in self.ends
        text = "" if stopped else self.stops.push(self.text.push(id))
        if self.request.logprobs is not None:
            said.scores.append(score(logits, id, self.request.logprobs, self.size))
        said.ids.append(id)
        said.texts.append(text)
        self.ids.append(id)
        self.first_token_s = self.first_token_s or time.monotonic() - self.submitted
        if stopped or self.stops.found or (self.guide and self.guide.is_over):
            return "stop"
        return "length" if self.left == 0 else None

    def choose(self, logits: np.ndarray) -> int:
        """The next id; the grammar, where there is one, has its say, and goes on with it."""
        if self.guide is None:
            return self.sampler.choose(logits)
        id = self.sampler.choose(logits, self.guide.allowed())
        self.guide.take(id)
        return id

    def last_event(self, finish: Finish, event: Event | None = None) -> Event:
        """`event`, or an empty one, made the last: with the text held back, and what it all took."""
        event = event or Event(prompt_scores=self._prompt_scores() if finish == "length" else ())
        text = event.text + self._held_text()
        return replace(event, text=text, finish=finish, usage=self.usage())

    def failed(self, problem: str) -> Event:
        return Event(finish="error", problem=problem, usage=self.usage())

    def usage(self) -> Usage:
        total = time.monotonic() - self.submitted
        cached, guesses = self.work.cached or 0, (self.guessed, self.accepted)
        return Usage(len(self.request.ids), cached, self.written, self.first_token_s, total, *guesses)

    @property
    def written(self) -> int:
        return len(self.ids) - len(self.request.ids)

    @property
    def left(self) -> int:
        """How many tokens it may still write."""
        return self.limit - self.written

    def _held_text(self) -> str:
        if self.written == 0 or self.stops.found:
            return ""
        text = self.stops.push(self.text.finish())
        return text if self.stops.found else text + self.stops.finish()

    def _prompt_scores(self) -> tuple[TokenScore | None, ...]:
        if self.told_prompt:
            return ()
        self.told_prompt = True
        return tuple(self.prompt_scores)
