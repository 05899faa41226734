"""A receiver of webhooks that verifies with somebody else's library and remembers every call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

#: Says with which status a call is answered, by its event id; None: hang up without a word.
Mood = Callable[[str], int | None]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the receiver."""

    at: float  #: `time.time()`
    event_id: str  #: the `webhook-id` header
    event_type: str
    analysis_id: str | None
    verified: bool  #: by a secret that the receiver was told of
    answered: int | None

    @property
    def taken(self) -> bool:
        """Whether the sender was told that it arrived."""
        return self.verified and self.answered is not None and 200 <= self.answered < 300


def cheerful(_event_id: str) -> int | None:
    """Takes everything."""
    return 204


class Receiver:
    """An HTTP server on a free port of the loopback address; use as a context."""

    def __init__(self, mood: Mood = cheerful) -> None:
        self._mood = mood
        self._secrets: list[Webhook] = []
        self._calls: list[Call] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What an endpoint is made with."""
        return f"http://127.0.0.1:{self.port}/hook"

    def trust(self, secret: str) -> None:
        """Verify by this secret too."""
        self._secrets.append(Webhook(secret))

    def calls(self, analysis_id: str | None = None) -> list[Call]:
        """What has come so far, of one analysis or of all."""
        with self._lock:
            return [call for call in self._calls if analysis_id in {None, call.analysis_id}]

    def receive(self, body: bytes, headers: dict[str, str]) -> int | None:
        """Remember a call; the status to answer it with."""
        event = _event(body)
        event_id = headers.get("webhook-id", "")
        answer = self._mood(event_id)
        call = Call(
            at=time.time(),
            event_id=event_id,
            event_type=str(event.get("type")),
            analysis_id=(event.get("data") or {}).get("analysis_id"),
            verified=any(_verifies(secret, body, headers) for secret in self._secrets),
            answered=answer,
        )
        with self._lock:
            self._calls.append(call)
        return answer


def _event(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _verifies(secret: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        secret.verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Read it whole, then answer as the mood is."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.server.receiver.receive(body, {k.lower(): v for k, v in self.headers.items()})
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the calls are remembered."""
