"""A small HTTP server that speaks the API's envelope, told per test what to answer."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Answer:
    """What to send; `drop` closes the connection instead of answering."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    raw: bytes | None = None
    after: threading.Event | None = None  #: answer only once this is set


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: Message
    body: bytes
    body_bytes: int

    def parts(self) -> dict[str, Message]:
        """The multipart parts by field name."""
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        whole = BytesParser().parsebytes(head + self.body)
        return {
            str(part.get_param("name", header="Content-Disposition")): part
            for part in whole.get_payload()
            if isinstance(part, Message)
        }


class ScriptedApi:
    """Answers of a path are used up one by one; the last one is repeated for ever."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Seen] = []
        self.keep_bodies = True
        self.connections: set[socket.socket] = set()
        self._script: dict[tuple[str, str], deque[Answer]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"api": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return self._server.server_port

    def answer(self, method: str, path: str, *answers: Answer) -> None:
        self._script[method, path] = deque(answers)

    def next_answer(self, method: str, path: str) -> Answer:
        script = self._script.get((method, path))
        if not script:
            return Answer(404, {"code": "not_found", "detail": "There is no such thing."})
        return script.popleft() if len(script) > 1 else script[0]

    def paths(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.requests]

    def close(self) -> None:
        """Stop listening and cut every connection, as a killed server does."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """Serves one connection of a `ScriptedApi`, which its subclass names."""

    protocol_version = "HTTP/1.1"
    api: ScriptedApi

    def setup(self) -> None:
        super().setup()
        self.api.connections.add(self.connection)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may hang up at any moment
            super().handle()

    def finish(self) -> None:
        self.api.connections.discard(self.connection)
        with contextlib.suppress(ConnectionError):
            super().finish()

    def _read_body(self) -> tuple[bytes, int]:
        total = left = int(self.headers.get("Content-Length", 0))
        kept = []
        while left and (piece := self.rfile.read(min(left, 65536))):
            left -= len(piece)
            if self.api.keep_bodies:
                kept.append(piece)
        return b"".join(kept), total - left

    def _serve(self) -> None:
        body, count = self._read_body()
        path = self.path.partition("?")[0]
        self.api.requests.append(Seen(self.command, self.path, self.headers, body, count))
        answer = self.api.next_answer(self.command, path)
        if answer.after is not None:
            assert answer.after.wait(60)
        if answer.drop:
            self.close_connection = True
            return
        payload = answer.raw if answer.raw is not None else json.dumps(answer.body).encode()
        if answer.status == 304:
            payload = b""
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(payload)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = _serve  # noqa: N815 - names of the standard library

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    server = ScriptedApi()
    yield server
    server.close()


def envelope(identity: str = "a1", status: str = "completed", **more: Any) -> dict[str, Any]:
    """An envelope of the API with everything that a client may rely on."""
    return {
        "id": identity,
        "status": status,
        "progress": {"fraction": 0.0, "stages": []},
        "media": {"sha256": "00", "size_bytes": 3, "filename": "clip.mp4", "facts": None},
        "options": {"interval_seconds": 2.0, "frames_per_interval": 5},
        "metadata": {},
        "verdict": None,
        "confidence": None,
        "report": None,
        "error": None,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "completed_at": None,
        "deadline": "2026-01-01T06:00:00Z",
        "links": {"self": f"/v1/analyses/{identity}", "intervals": f"/v1/analyses/{identity}/intervals"},
        **more,
    }


def report(verdict: str = "DEEPFAKE", **more: Any) -> dict[str, Any]:
    """A report as fusion writes it."""
    return {"verdict": verdict, "confidence": 80.0, **more}


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
