"""One request and the beginning of its answer, over a connection of its own to a checked address.

No proxy and no .netrc from the environment, no cookies, no redirects, no decompression: httpcore knows
none of these, which is why it is used without httpx on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Final

import httpcore2

from core.config import OutboundSettings
from core.domain import Frozen
from core.errors import Unreachable
from core.urls import Target, resolve
from workers.outbound.dial import Budget, Pinned, tls_context

AGENT: Final = f"DeepDefend/{version('deepdefend')}"
#: A name server has this long, of the call's whole time.
RESOLVE: Final = timedelta(seconds=5)


class Patience(Frozen):
    """How long each part of a call may take; `total` bounds their sum."""

    total: timedelta
    connect: timedelta
    idle: timedelta  #: between two bytes


class Answer:
    """Status and headers, and the body still to be read."""

    def __init__(self, response: httpcore2.Response) -> None:
        self.status = response.status
        self.headers = joined(response.headers)
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """The body as it was sent, piece by piece. Raises Unreachable."""
        with translated():
            yield from self._response.iter_stream()


def joined(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Names in lower case; a header that comes twice has its values joined, as RFC 9110 allows."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


@contextmanager
def exchange(
    method: str,
    target: Target,
    *,
    policy: OutboundSettings,
    patience: Patience,
    headers: Mapping[str, str],
    body: bytes = b"",
    checkpoint: Callable[[], None] = lambda: None,
) -> Iterator[Answer]:
    """Resolve, check, dial one of the checked addresses, ask. The connection ends with the block.

    Raises UnsafeUrl before anything is dialled, then Unreachable; and what `checkpoint` raises, which
    is called about twice a second for as long as something is waited for.
    """
    budget = Budget(patience.total, checkpoint)
    addresses = resolve(target, policy, within=min(RESOLVE, patience.total), checkpoint=checkpoint)
    backend = Pinned(addresses, budget, connect=patience.connect, idle=patience.idle)
    url = _url(target)
    connection = httpcore2.HTTPConnection(
        url.origin, ssl_context=tls_context() if target.scheme == "https" else None, network_backend=backend
    )
    try:
        with translated():
            response = connection.handle_request(_request(method, url, target, headers, body))
        if backend.wire is not None:
            backend.wire.head_is_read()
        yield Answer(response)
    finally:
        connection.close()
        backend.hang_up()


def _url(target: Target) -> httpcore2.URL:
    return httpcore2.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=target.request_target.encode(),
    )


def _request(
    method: str, url: httpcore2.URL, target: Target, headers: Mapping[str, str], body: bytes
) -> httpcore2.Request:
    ours = {
        "Host": target.authority,
        "Accept-Encoding": "identity",  # nothing is decompressed here, so nothing can be a bomb
        "Connection": "close",
        "User-Agent": AGENT,
    }
    if method != "GET":
        ours["Content-Length"] = str(len(body))
    taken = {name.lower() for name in ours}
    theirs = {name: value for name, value in headers.items() if name.lower() not in taken}
    return httpcore2.Request(method, url, headers=list((ours | theirs).items()), content=body)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of httpcore in our words, without a byte of what the server said."""
    try:
        yield
    except httpcore2.TimeoutException:
        raise Unreachable("the server did not answer in time", code="timed_out") from None
    except httpcore2.NetworkError:
        raise Unreachable("the connection broke", code="connection_lost") from None
    except httpcore2.ProtocolError:
        raise Unreachable("the server did not answer in HTTP, or not to its end", code="bad_answer") from None
