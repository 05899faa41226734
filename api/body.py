"""Request bodies as they arrive: in pieces from a sender who may stall, and small ones as JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import anyio
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from api import strict_json
from api.errors import BodyTooLarge, UploadStalled
from core.errors import InvalidRequest, UnsupportedMedia

JSON: Final = b"application/json"
#: Metadata at its largest, written with an escape for every character, and the rest of a submission.
MAX_JSON_BYTES: Final = 128 * 1024
#: The object itself around metadata at its deepest.
MAX_JSON_DEPTH: Final = 9


class MalformedJson(InvalidRequest):
    """The request body is not a JSON object."""

    code = "malformed_json"


def media_type(request: Request) -> bytes:
    """What the sender says the body is, lower case, without parameters; empty when nothing is said."""
    found: bytes = parse_options_header(request.headers.get("content-type", ""))[0]
    return found.strip().lower()


def refuse_encoded(request: Request) -> None:
    """Raise UnsupportedMedia for a Content-Encoding: a few bytes could unfold to any size."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("send the body without a Content-Encoding")


async def read_object(request: Request, *, idle: float, empty: bool = False) -> dict[str, Any]:
    """The body as a JSON object; {} for no body at all where that is allowed.

    Raises UnsupportedMedia, BodyTooLarge, UploadStalled, MalformedJson or starlette's ClientDisconnect.
    """
    refuse_encoded(request)
    kind = media_type(request)
    if kind != JSON and not (empty and not kind):
        raise UnsupportedMedia("send the body as application/json")
    body = bytearray()
    async with aclosing(pieces(request, idle)) as stream:
        async for piece in stream:
            body += piece
            if len(body) > MAX_JSON_BYTES:
                raise BodyTooLarge(limit_bytes=MAX_JSON_BYTES)
    if empty and not body:
        return {}
    try:
        found = strict_json.parse(body.decode("utf-8"), depth=MAX_JSON_DEPTH)
    except UnicodeDecodeError as error:
        raise MalformedJson("the body is not UTF-8") from error
    except ValueError as error:
        raise MalformedJson(f"the body: {error}") from error
    if not isinstance(found, dict):
        raise MalformedJson
    return found


async def pieces(request: Request, idle: float) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises UploadStalled after `idle` seconds without a byte."""
    async with aclosing(request.stream()) as stream:
        while (piece := await _next(stream, idle)) is not None:
            yield piece


async def _next(stream: AsyncIterator[bytes], idle: float) -> bytes | None:
    """The next piece; None at the end."""
    try:
        with anyio.fail_after(idle):
            return await anext(stream, None)
    except TimeoutError as error:
        raise UploadStalled from error
