"""A local HTTP server that speaks the wire format of `generateContent`, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer; `hang` holds it back until the server is closed, `drip` sends blanks until then."""

    body: bytes = b"{}"
    status: int = 200
    hang: bool = False
    drip: bool = False


@dataclass(kw_only=True)
class Service:
    """The server's address, what it will answer (the last one again and again), what it was asked."""

    url: str
    replies: list[Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)


def answered(text: str, *, finish: str = "STOP") -> Reply:
    """A candidate with one text part, as the API sends it."""
    content = {"parts": [{"text": text}], "role": "model"}
    body = {
        "candidates": [{"content": content, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 900, "candidatesTokenCount": 90, "totalTokenCount": 990},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "x1",
    }
    return Reply(body=json.dumps(body).encode())


def failed(status: int, word: str) -> Reply:
    """An error in Google's envelope."""
    error = {"code": status, "message": "made for a test", "status": word}
    return Reply(status=status, body=json.dumps({"error": error}).encode())


def blocked() -> Reply:
    """A refused prompt: a 200 without candidates."""
    return Reply(body=json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}).encode())


@contextmanager
def serving(*replies: Reply) -> Iterator[Service]:
    """Serve `replies` in their order on a free port of this machine."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            service.requests.append(
                {"path": self.path, "headers": dict(self.headers), "raw": raw, "body": json.loads(raw)}
            )
            reply = replies[min(len(service.requests), len(replies)) - 1]
            if reply.hang:
                closing.wait()
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body) + 1_000_000 * reply.drip))
            self.end_headers()
            while reply.drip and not closing.wait(0.02):
                self.wfile.write(b" ")
            self.wfile.write(reply.body)

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = Service(url=f"http://127.0.0.1:{server.server_port}", replies=list(replies))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
