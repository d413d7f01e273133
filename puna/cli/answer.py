"""One question, one answer: render, submit, follow the stream, stop it on Ctrl-C. Nothing here prints."""

import difflib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from puna.engine.request import Finish, Grammar, Request, Sampling, Usage
from puna.errors import ConfigError, RequestError, need
from puna.messages import Message
from puna.settings import Settings

if TYPE_CHECKING:
    from puna.engine.load import Session  # at run time it brings torch


PATIENCE_S = 2.0  # an engine that was asked to stop has so long before Ctrl-C gives up on it


class Wishes(Settings):
    """What the user may choose about answers, by the names of flags and of /set."""

    sampling: Sampling = Sampling()
    max_tokens: int | None = Field(None, ge=1)  # None: as far as the context reaches
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    adapter: str | None = None  # chosen once, not by /set

    def values(self) -> dict[str, Any]:
        """Every wish by name, in one flat table."""
        return {**self.sampling.model_dump(), "max_tokens": self.max_tokens, "stop": self.stop}

    def but(self, given: dict[str, Any], where: str) -> "Wishes":
        """These wishes with some changed; ConfigError names what is wrong and the nearest known name."""
        for name in given:
            near = difflib.get_close_matches(name, self.values(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            need(name in self.values(), f"{where}: no setting is called {name!r}{hint}", error=ConfigError)
        drawn = {name: value for name, value in given.items() if name in Sampling.model_fields}
        rest = {name: value for name, value in given.items() if name not in drawn}
        sampling = Sampling.read({**self.sampling.model_dump(), **drawn}, where)
        return Wishes.read({**self.model_dump(), **rest, "sampling": sampling}, where)


def parsed(name: str, text: str) -> Any:
    """The value a user typed for a wish: none, JSON, or plain text that the setting itself understands."""
    if text.lower() == "none":
        return () if name == "stop" else None
    if text[:1] in ("[", "{", '"'):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise ConfigError(f"/set {name}: {text!r} is not valid JSON ({problem})") from None
    else:
        value = text
    return (value,) if name == "stop" and isinstance(value, str) else value


@dataclass(frozen=True)
class Answer:
    text: str
    ids: tuple[int, ...]
    finish: Finish
    usage: Usage
    problem: str = ""  # with finish "error"


def ask(
    session: "Session",
    messages: list[Message],
    wishes: Wishes,
    context: int,
    show: Callable[[str], None],
    form: Grammar | None = None,
) -> Answer:
    """The model's answer, of this form where one is asked for; `show` gets each piece of text as it comes.

    Ctrl-C ends it: finish "cancelled".
    """
    ids = tuple(session.template.render(messages).ids)
    need_room(len(ids), context)
    request = Request(
        ids=ids,
        sampling=wishes.sampling,
        max_tokens=wishes.max_tokens,
        stop=wishes.stop,
        stop_ids=frozenset(session.template.stop_ids),
        adapter=wishes.adapter,
        grammar=form,
    )
    return _follow(session, request, show)


def need_room(tokens: int, context: int) -> None:
    """RequestError when so many tokens leave no room for an answer."""
    if tokens >= context:
        raise RequestError(
            f"the conversation takes {tokens:,} tokens, the model remembers {context:,}\n"
            "  try: a shorter text; in a chat /undo takes the last question back, /clear begins anew"
        )


def _follow(session: "Session", request: Request, show: Callable[[str], None]) -> Answer:
    started, first = time.perf_counter(), 0.0
    texts: list[str] = []
    ids: list[int] = []
    finish: Finish = "cancelled"
    usage, problem = None, ""
    stream = session.engine.submit(request)
    try:
        with on_interrupt(stream.close):
            for event in stream:
                first = first or time.perf_counter() - started
                ids.extend(event.ids)
                texts.append(event.text)
                show(event.text)
                if event.finish:
                    finish, usage, problem = event.finish, event.usage, event.problem
    except KeyboardInterrupt:
        finish = "cancelled"
    finally:
        stream.close()
    measured = Usage(len(request.ids), 0, len(ids), first, time.perf_counter() - started)
    return Answer("".join(texts), tuple(ids), finish, usage or measured, problem)


@contextmanager
def on_interrupt(end: Callable[[], None]) -> Iterator[None]:
    """Inside, Ctrl-C calls `end` and raises nothing.

    An exception out of nowhere may be lost, or break what it meets. Pressed once more when `end` has not
    helped for a while, Ctrl-C raises KeyboardInterrupt after all.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield  # signals are not ours to handle
        return
    presses: list[float] = []

    def pressed(number: int, frame: FrameType | None) -> None:
        presses.append(time.monotonic())
        end()
        if presses[-1] - presses[0] > PATIENCE_S:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def sentence(usage: Usage) -> str:
    """What an answer took, for people."""
    after_first = usage.total_s - usage.first_token_s
    known = usage.completion_tokens > 1 and after_first > 0
    speed = f"then {(usage.completion_tokens - 1) / after_first:.1f} tokens/s" if known else ""
    remembered = f" ({usage.cached_tokens:,} remembered)" if usage.cached_tokens else ""
    parts = (
        f"{usage.completion_tokens:,} tokens in {usage.total_s:.2f} s",
        f"first after {usage.first_token_s:.2f} s",
        speed,
        f"prompt {usage.prompt_tokens:,} tokens{remembered}",
    )
    return ", ".join(filter(None, parts))
