"""One request on its way through the engine: what it has read, written and still holds back."""

import time
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from puna.engine.request import Event, Finish, Request, TokenScore, Usage
from puna.engine.sample import Sampler, score
from puna.engine.stop import Stops
from puna.model.attend import Memory


class TextStream(Protocol):
    """Ids to text, never half a character."""

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class Vocabulary(Protocol):
    """What the engine wants of a tokenizer."""

    @property
    def size(self) -> int: ...

    def stream(self, special: bool = False) -> TextStream: ...


class Task:
    """The engine's side of a request. Only the engine's thread changes it, save for `cancelled`."""

    def __init__(
        self,
        request: Request,
        deliver: Callable[[Event], None],
        context: int,
        tokenizer: Vocabulary,
        size: int,
    ):
        self.request, self.deliver = request, deliver
        self.ids = list(request.ids)  # prompt and answer
        room = context - len(request.ids)
        self.limit = room if request.max_tokens is None else min(request.max_tokens, room)
        self.size = size  # of the vocabulary that may be written
        self.sampler = Sampler(request.sampling, request.ids, size)
        self.text = tokenizer.stream(special=request.special_text)
        self.stops = Stops(request.stop)
        self.cancelled = self.ended = False
        self.memory: Memory | None = None
        self.cached = 0
        self.prompt_scores: list[TokenScore | None] = [None]  # nothing comes before the first token
        self.told_prompt = not request.prompt_logprobs
        self.submitted = time.monotonic()
        self.first_token_s = 0.0

    def cancel(self) -> None:
        """From any thread: the engine ends this request at its next chance."""
        self.cancelled = True

    def write(self, logits: Tensor) -> tuple[Event, Finish | None]:
        """Choose a token by these logits (V,) and say what is new; with a finish if it was the last one."""
        id = self.sampler.choose(logits[: self.size])
        self.ids.append(id)
        self.first_token_s = self.first_token_s or time.monotonic() - self.submitted
        scores = () if self.request.logprobs is None else (score(logits, id, self.request.logprobs),)
        finish: Finish | None = None
        text = ""
        if id in self.request.stop_ids:
            finish = "stop"
        else:
            text = self.stops.push(self.text.push(id))
            if self.stops.found:
                finish = "stop"
            elif self.written == self.limit:
                finish = "length"
        return Event((id,), text, scores, self._prompt_scores()), finish

    def last_event(self, finish: Finish, problem: str, event: Event | None) -> Event:
        """The event that ends the request: the text held back until now, and what it all took."""
        event = event or Event(prompt_scores=self._prompt_scores() if finish == "length" else ())
        usage = Usage(
            len(self.request.ids),
            self.cached,
            self.written,
            self.first_token_s,
            time.monotonic() - self.submitted,
        )
        text = event.text + self._held_text()
        return Event(event.ids, text, event.scores, event.prompt_scores, finish, problem, usage)

    @property
    def written(self) -> int:
        return len(self.ids) - len(self.request.ids)

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
