"""Who may come in: the names the server answers to, the key it wants, and how much it reads.

A server on loopback is still reached by every web page the user opens: a page can point its own name at
127.0.0.1 (DNS rebinding) or post without asking. So on loopback the Host header must name this machine,
and so must Origin, which only browsers send.
"""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puna.errors import RequestError
from puna.serve.replies import failure

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
BODY_BYTES = 16 * 2**20


class Door:
    """ASGI: the way in. `hosts` None: any name; `api_key` None: anyone. /health needs no key."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, api_key: str | None, body_bytes: int):
        self.app, self.hosts, self.body_bytes = app, hosts, body_bytes
        self.key = None if api_key is None else _digest(api_key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal:
            return await error_reply(refusal)(scope, receive, send)
        return await self.app(scope, self._counted(receive), send)

    def _refusal(self, headers: Headers, path: str) -> RequestError | None:
        if self.hosts is not None:
            for name, value in (("Host", headers.get("host", "")), ("Origin", headers.get("origin"))):
                if value is not None and _host_of(value) not in self.hosts:
                    return RequestError(
                        f"{name} {value!r} is not this machine; we answer to {', '.join(sorted(self.hosts))}",
                        403,
                        "host_not_allowed",
                    )
        if self.key and path != "/health" and not self._opens(headers.get("authorization", "")):
            return RequestError(
                "the API key is missing or wrong: send Authorization: Bearer KEY", 401, "invalid_api_key"
            )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self.body_bytes:
            return self._too_large()
        return None

    def _opens(self, authorization: str) -> bool:
        """Compared as digests, in a time that tells nothing."""
        assert self.key is not None
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            _digest(key.strip().encode("latin-1")), self.key
        )

    def _counted(self, receive: Receive) -> Receive:
        """A body sent in chunks announces no length: count it while it comes."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.body_bytes:
                raise HTTPException(413, str(self._too_large()))
            return message

        return counted

    def _too_large(self) -> RequestError:
        return RequestError(f"the body is larger than {self.body_bytes:,} bytes", 413, "body_too_large")


def error_reply(error: RequestError) -> Response:
    """An error as OpenAI's clients expect it; they wait and try again by themselves at 429."""
    headers = {429: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(error.status)
    return json_reply(failure(error), error.status, headers)


def json_reply(said: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(said), status, headers, media_type="application/json")


def to_json(said: Any) -> bytes:
    """UTF-8; half a surrogate pair, which a client may send and get back in an error, stays a JSON escape."""
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(value: str) -> str | None:
    """The name in a Host or Origin header, without scheme and port; None for what is neither."""
    try:
        return urlsplit(value if "://" in value else f"//{value}").hostname
    except ValueError:
        return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
