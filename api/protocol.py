"""uvicorn's HTTP/1.1 with our words and our patience.

A request that is not HTTP is answered by a problem document too. A head must arrive within
HEAD_SECONDS however it drips (Slowloris), an answer must be read, and connections have a bound, so that
they cannot use up the file descriptors that the database and the storage need. One address may still
take all of them: limits per address are the proxy's work, which sees the addresses.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final
from uuid import uuid4

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from core.errors import DeepDefendError, InvalidRequest, Unavailable

#: Seconds from the first byte of a head, or from the connection, to the end of the head.
HEAD_SECONDS: float = 10.0
#: Seconds in which a caller who lets its answer wait must take some 50 KB of it: a slow modem does.
READ_SECONDS: float = 60.0
#: Of one process. 1024 is the usual bound of open files, of which the database and the storage use some.
MAX_CONNECTIONS: int = 800
#: Seconds after which a turned away connection may find a place.
RETRY_AFTER: Final = 5


class MalformedHttp(InvalidRequest):
    """The request is not valid HTTP: its request line, a header or its framing is broken."""

    code = "malformed_http"


class HeadTooLarge(InvalidRequest):
    """The request line and the headers are larger than this server reads."""

    status_code = 431
    code = "headers_too_large"


class HeadTimeout(InvalidRequest):
    """The head of the request did not arrive in time."""

    status_code = 408
    code = "head_timeout"


class UnknownFraming(InvalidRequest):
    """This server knows no Transfer-Encoding but one `chunked`."""

    status_code = 501
    code = "unknown_transfer_encoding"


class TooManyConnections(Unavailable):
    """Too many connections are open; try again later."""

    code = "server_busy"


#: h11's hints; every other fault is a 400.
FAULTS: Final[dict[int, type[DeepDefendError]]] = {431: HeadTooLarge, 501: UnknownFraming}


class ProblemProtocol(H11Protocol):
    """What is refused here has no path to speak of yet, so nothing of the request is echoed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or say that there is no place for it."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(TooManyConnections(retry_after=RETRY_AFTER))
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Read on; what belongs to a head that has not ended is on the clock."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """The next head may be there already, in part: uvicorn's keep-alive clock stops at its first byte."""
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._stop_watching()
        self._is_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The answer waits for its reader, from now on by the clock."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It is being read."""
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not for the caller
        """Answer what h11 has just refused with a problem, and hang up."""
        fault = sys.exc_info()[1]
        hint = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else 0
        self._refuse(FAULTS.get(hint, MalformedHttp)())

    def _watch_head(self) -> None:
        """Start the clock when a head is awaited, once; stop it when one is there."""
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE or not begun:
            self._stop_watching()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        """Only who has said something is owed an answer."""
        if self.conn.trailing_data[0]:
            self._refuse(HeadTimeout())
        else:
            self.transport.close()

    def _refuse(self, error: DeepDefendError) -> None:
        """Hang up, with the reason unless an answer is on its way already."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        problem = error.problem() | {"instance": None, "request_id": str(uuid4())}
        body = json.dumps(problem).encode()
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        if "retry_after" in error.extra:
            headers.append(("retry-after", str(error.extra["retry_after"])))
        response = h11.Response(status_code=error.status_code, headers=headers)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
