"""The first server: OpenAI's chat, completions, embeddings and models over one engine.

`build_app` makes the application, `serve` runs it until a signal comes, on 127.0.0.1 unless told otherwise.
Neither prints. No torch here: the engine brings it.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from puna import __version__
from puna.engine.request import Sampling
from puna.errors import PunaError, RequestError

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ModuleNotFoundError as missing:
    raise PunaError(
        f"the server needs the package {missing.name}, not installed\n  try: pip install 'puna[serve]'"
    ) from None

from puna.serve import chat, completions, embeddings
from puna.serve.limits import BODY_BYTES, LOOPBACK, Door, error_reply, json_reply, to_json
from puna.serve.openai import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    adapter_of,
    chat_requests,
    completion_requests,
    embedding_requests,
    invalid,
)
from puna.serve.replies import failure
from puna.serve.served import Running, Served, Template, Text

if TYPE_CHECKING:  # at run time it would bring torch
    from puna.engine.engine import Engine

Chunks = AsyncIterator[dict[str, Any]]


def build_app(
    engine: "Engine",
    template: Template,
    tokenizer: Text,
    name: str,
    *,
    defaults: Sampling | None = None,
    api_key: str | None = None,
    hosts: Collection[str] | None = LOOPBACK,
    body_bytes: int = BODY_BYTES,
) -> FastAPI:
    """The application for one model that clients call `name`. The engine stays the caller's to close.

    hosts: the names in Host and Origin that it answers to; None: any, for a server that listens beyond
    this machine.
    """
    served = Served(name, engine, template, tokenizer, defaults or Sampling())
    app = FastAPI(title="Puna", version=__version__, docs_url=None, redoc_url=None)
    app.state.served = served
    app.add_middleware(Door, hosts=hosts, api_key=api_key, body_bytes=body_bytes)
    _add_errors(app)
    _add_models(app, served)

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        running = Running(served, await asyncio.to_thread(chat_requests, body, served))
        if body.stream:
            return EventStream(running, chat.chunks(body, running))
        async with running.watched(request.receive):
            return json_reply(await chat.reply(body, running))

    @app.post("/v1/completions")
    async def text_completions(body: CompletionBody, request: Request) -> Response:
        running = Running(served, await asyncio.to_thread(completion_requests, body, served))
        if body.stream:
            return EventStream(running, completions.chunks(body, running))
        async with running.watched(request.receive):
            return json_reply(await completions.reply(body, running))

    @app.post("/v1/embeddings")
    async def vectors(body: EmbeddingBody, request: Request) -> Response:
        running = Running(served, await asyncio.to_thread(embedding_requests, body, served))
        async with running.watched(request.receive):
            return json_reply(await embeddings.reply(body, running))

    return app


def serve(
    app: FastAPI, host: str = "127.0.0.1", port: int = 8000, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then end what runs and return. `ready` gets the address to connect to.

    Port 0 takes a free one. PunaError if the address cannot be had.
    """
    listener = _listen(host, port)
    address, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    server = Server(config, app.state.served)
    with _ended_by_signals(server):
        if ready:
            ready(f"http://{f'[{address}]' if ':' in address else address}:{port}")
        server.run(sockets=[listener])


class Server(uvicorn.Server):
    """Uvicorn, save that at the end answers are cut short instead of waited for."""

    def __init__(self, config: uvicorn.Config, served: Served):
        super().__init__(config)
        self.served = served

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for running in tuple(self.served.running):
            running.cancel()
        await super().shutdown(sockets)


class EventStream(Response):
    """Server-sent events as OpenAI sends them; an error after the beginning is an event, too."""

    media_type = "text/event-stream"

    def __init__(self, running: Running, chunks: Chunks):
        self.running, self.chunks = running, chunks
        super().__init__(headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.running.watched(receive):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for chunk in self.chunks:
                    await _send_event(send, to_json(chunk))
            except RequestError as error:
                await _send_event(send, to_json(failure(error)))
            await _send_event(send, b"[DONE]")
            await send({"type": "http.response.body", "body": b""})


async def _send_event(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": True})


def _add_models(app: FastAPI, served: Served) -> None:
    """What there is to ask: the model, what its adapters make of it, and whether the engine lives."""

    def told(name: str) -> dict[str, Any]:
        model = {"id": name, "object": "model", "created": served.created, "owned_by": "puna"}
        return model if name == served.name else {**model, "parent": served.name}

    @app.get("/v1/models")
    async def models() -> Response:
        names = served.name, *served.engine.adapters.names
        return json_reply({"object": "list", "data": [told(name) for name in names]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        adapter_of(name, served)
        return json_reply(told(name))

    @app.get("/health")
    async def health() -> Response:
        alive = served.engine.alive
        return json_reply({"status": "ok" if alive else "closed"}, 200 if alive else 503)


def _add_errors(app: FastAPI) -> None:
    """Everything that goes wrong is told in OpenAI's shape."""

    @app.exception_handler(PunaError)
    async def ours(request: Request, error: PunaError) -> Response:
        return error_reply(error if isinstance(error, RequestError) else RequestError(str(error)))

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> Response:
        return error_reply(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def wrong_address(request: Request, error: HTTPException) -> Response:
        said = f"{request.method} {request.url.path}: {error.detail}"
        return error_reply(RequestError(said, error.status_code))

    @app.exception_handler(Exception)
    async def our_fault(request: Request, error: Exception) -> Response:
        return error_reply(RequestError(f"the server failed: {type(error).__name__}", 500, "server_error"))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as problem:
        raise PunaError(
            f"{host}:{port}: cannot listen there ({problem})\n  try: another --port, or 0 for a free one"
        ) from None


@contextmanager
def _ended_by_signals(server: Server) -> Iterator[None]:
    """A signal ends the server, even before it runs; uvicorn raising it again at the end is no matter."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
