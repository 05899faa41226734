"""What a request may be before anybody looks at what it says: its address, its head, its body.

h11 and uvicorn read it; here is what they let through. A request whose end two readers could see in
two places (a proxy and we) is refused and its connection closed: that is how requests are smuggled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.authentication import SUBMITTING, call_of
from api.errors import BodyTooLarge, EarlyEnd, UploadStalled, respond
from api.protocol import MalformedHttp
from core.errors import DeepDefendError, InvalidRequest

#: Browsers send about 15 headers of 2 KB together; h11 stops at 16 KiB only when they come slowly.
MAX_HEADERS, MAX_HEADER_BYTES = 64, 16 * 1024
#: The longest query we ask for is a cursor and some filters.
MAX_QUERY_BYTES: Final = 4096
#: Of every body but that of an upload, which has bounds of its own (api.upload). Seconds for all of it.
MAX_BODY_BYTES, BODY_SECONDS = 64 * 1024, 30.0
#: An upload that is slower than this, after this many seconds of waiting for it, is never to end.
SLOWEST_BYTES_PER_SECOND, SLOW_GRACE = 1024, 60.0
VERSIONS: Final = frozenset({"1.0", "1.1"})
#: Encoded, they would be a separator to one reader and a letter to another.
AMBIGUOUS: Final = re.compile(rb"%(2f|5c|00)|\\", re.IGNORECASE)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class InvalidTarget(InvalidRequest):
    """The address of the request has characters, or a form, that this server does not take."""

    code = "invalid_target"


class UriTooLong(InvalidRequest):
    """The query is longer than any that this server asks for."""

    status_code = 414
    code = "uri_too_long"


class HeadersTooLarge(InvalidRequest):
    """The request has more headers, or longer ones, than this server reads."""

    status_code = 431
    code = "headers_too_large"


class UnknownVersion(InvalidRequest):
    """This server speaks HTTP/1.1."""

    status_code = 505
    code = "unknown_http_version"


class BodyTimeout(UploadStalled):
    """The body did not arrive in time."""

    code = "body_timeout"


class Bounds:
    """Comes first: nobody else need fear what a head says."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            check_head(scope)
            bounded = (
                receive_slowly(receive) if call_of(scope) in SUBMITTING else _receive_small(scope, receive)
            )
        except DeepDefendError as error:
            await respond(scope, error)(scope, receive, send)
            return
        await self._app(scope, bounded, send)


def check_head(scope: Scope) -> None:
    """Raises MalformedHttp, InvalidTarget, UriTooLong or HeadersTooLarge."""
    headers = Headers(scope=scope)
    version = scope["http_version"]
    if "transfer-encoding" in headers and ("content-length" in headers or version == "1.0"):
        raise MalformedHttp
    if version not in VERSIONS:
        raise UnknownVersion
    if not scope["path"].startswith("/") and (scope["method"], scope["path"]) != ("OPTIONS", "*"):
        raise InvalidTarget  # a proxy's form: CONNECT, or another server's address
    if AMBIGUOUS.search(scope["raw_path"]) or CONTROL.search(scope["path"]):
        raise InvalidTarget
    if len(scope["query_string"]) > MAX_QUERY_BYTES:
        raise UriTooLong(limit_bytes=MAX_QUERY_BYTES)
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise HeadersTooLarge(limit_bytes=MAX_HEADER_BYTES, limit_count=MAX_HEADERS)


def _receive_small(scope: Scope, receive: Receive) -> Receive:
    """For routes that take a little JSON or nothing. Raises BodyTooLarge at once when it is announced."""
    announced = Headers(scope=scope).get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise BodyTooLarge(limit_bytes=MAX_BODY_BYTES)
    size, deadline, ended = 0, anyio.current_time() + BODY_SECONDS, False

    async def bounded() -> Message:
        nonlocal size, ended
        if ended:  # from now on this is how a long answer learns that its reader has gone
            return await receive()
        with anyio.CancelScope(deadline=deadline) as patience:
            message = await receive()
        if patience.cancelled_caught:
            raise EarlyEnd(BodyTimeout())
        size += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise EarlyEnd(BodyTooLarge(limit_bytes=MAX_BODY_BYTES))
        return message

    return bounded


def receive_slowly(receive: Receive, clock: Callable[[], float] = time.monotonic) -> Receive:
    """For uploads: as long as it takes, but not for ever. Only waiting for the sender counts."""
    size, waited = 0, 0.0

    async def bounded() -> Message:
        nonlocal size, waited
        began = clock()
        message = await receive()
        size += len(message.get("body", b""))
        waited += clock() - began
        if message.get("more_body", False) and waited > SLOW_GRACE + size / SLOWEST_BYTES_PER_SECOND:
            raise EarlyEnd(UploadStalled())
        return message

    return bounded
