"""What surrounds every request: its id, its log line, its headers, and its orderly end.

Plain ASGI, outermost first: `Linger`, `Envelope`, `Cors`, `Problems`, `Bounds`, `Authentication`,
`Admission`, `Head`. They see the headers before anybody reads the body, which a FastAPI dependency
does not (forms are parsed before dependencies).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final
from uuid import uuid4

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import respond
from core import logging
from core.keys import Caller

log = logging.get("api.access")
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Answers are data, never pages: nothing may be loaded or framed by them. Pages set their own.
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
#: A year, and for this host alone: whoever runs it may run others beside it. Only where the caller
#: came by TLS, which a proxy says in X-Forwarded-Proto and uvicorn believes from proxies it trusts.
TRANSPORT_SECURITY: Final = "max-age=31536000"
#: Asked every few seconds by machines: worth a line only when debugging.
QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
#: How far an unread body is drained after an early answer (see `Linger`): seconds, seconds without
#: a byte, bytes.
LINGER_SECONDS, LINGER_IDLE, LINGER_BYTES = 5.0, 1.0, 64 * 1024 * 1024


class Envelope:
    """Request id, security headers and one log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if REQUEST_ID.fullmatch(offered) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(service="api", request_id=request_id):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = scope["state"]["request_id"]
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = TRANSPORT_SECURITY
            await send(message)

        try:
            await self._app(scope, receive, dressed)
        finally:
            _log_access(scope, status, time.perf_counter() - began)


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    caller: Caller | None = scope["state"].get("caller")
    write = log.debug if scope["path"] in QUIET else log.info
    write(
        "%s %s %s",
        scope["method"],
        scope["path"],  # without the query: cursors and file digests are the caller's business
        status,
        action="request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        milliseconds=round(seconds * 1000, 1),
        key=caller.key_id if caller else None,
    )


class Problems:
    """A problem document for what nobody caught; within `Cors`, so that pages can read it too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # the API's one catch-all: whatever it was, it leaves as a problem
            response = respond(scope, error)
            if started:
                raise  # half an answer is out; only closing the connection is honest now
            await response(scope, receive, send)


class Linger:
    """An early answer (401, 413) must survive a body that is still arriving.

    Closing a socket with unread bytes resets it, and the reset may destroy the answer before the
    caller has read it; keeping it open would let the body flow for ever. So the answer says
    `Connection: close`, the body is drained within bounds, and only then does the connection end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        unread = True

        async def watched() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body", False))
            return message

        async def closing(message: Message) -> None:
            if not unread:
                await send(message)
            elif message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
                await send(message)
            else:
                await send({**message, "more_body": True})
                if not message.get("more_body", False):
                    await _drain(receive)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, watched, closing)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _drain(receive: Receive) -> None:
    drained = 0
    with anyio.move_on_after(LINGER_SECONDS) as patience:
        end = patience.deadline
        while drained < LINGER_BYTES:
            patience.deadline = min(end, anyio.current_time() + LINGER_IDLE)
            message = await receive()
            drained += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


class Head:
    """HEAD is GET without a body (RFC 9110, section 9.3.2), but FastAPI's routes answer it with 405.

    The scope is copied: the server keeps the real method and sends no body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
