"""The model behind the door, and a bridge from the engine's thread to an event loop that awaits events."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from puna.engine.request import Event, Request, Sampling
from puna.errors import RequestError
from puna.messages import Message, Tool

if TYPE_CHECKING:  # at run time it would bring torch
    from puna.engine.engine import Engine

TOGETHER = (
    8  # requests of one call that may run or wait at once; a long list of prompts leaves room for others
)
Receive = Callable[[], Awaitable[Any]]


class Text(Protocol):
    """What the server wants of a tokenizer."""

    bos_id: int | None
    adds_bos: bool
    stop_ids: Collection[int]
    specials: Mapping[str, int]

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def bytes_of(self, id: int) -> bytes: ...


class Template(Protocol):
    """What the server wants of a chat template; `render` gives something with `.ids`."""

    stop_ids: Collection[int]

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Any: ...


@dataclass(frozen=True)
class Served:
    """One model with all that its endpoints need. `defaults` draw where a client says nothing."""

    name: str
    engine: "Engine"
    template: Template
    tokenizer: Text
    defaults: Sampling
    created: int = field(default_factory=lambda: int(time.time()))
    running: "set[Running]" = field(default_factory=set)


class Running:
    """Several engine requests, each checked, as one stream of (index, event). RequestError if not now."""

    def __init__(self, served: Served, requests: Sequence[Request]):
        self.served, self.requests = served, requests
        self.loop = asyncio.get_running_loop()
        self.arrived: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.cancels: list[Callable[[], None]] = []
        self.stopped = False
        try:
            for _ in requests[:TOGETHER]:
                self._begin_next()
        except RequestError:
            self.cancel()
            raise

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Every event of every request as it comes."""
        for _ in self.requests:
            finish = None
            while finish is None:
                index, event = await self.arrived.get()
                finish = event.finish
                yield index, event
            if len(self.cancels) < len(self.requests):
                self._begin_next()

    def cancel(self) -> None:
        """End all of it soon; the events that say so still come."""
        self.stopped = True
        for cancel in self.cancels:
            cancel()

    @asynccontextmanager
    async def watched(self, receive: Receive) -> AsyncIterator[None]:
        """While the block runs, a client that hangs up cancels everything; leaving early does, too."""
        watch = asyncio.create_task(self._until_gone(receive))
        self.served.running.add(self)
        try:
            yield
        finally:
            self.served.running.discard(self)
            watch.cancel()
            self.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.cancel()

    def _begin_next(self) -> None:
        index = len(self.cancels)

        def deliver(event: Event) -> None:
            self.loop.call_soon_threadsafe(self.arrived.put_nowait, (index, event))

        self.cancels.append(self.served.engine.begin(self.requests[index], deliver))
        if self.stopped:
            self.cancels[-1]()
