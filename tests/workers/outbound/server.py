"""Web servers for the tests: one that answers as told, and one that speaks whatever bytes it is given."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Not 127.0.0.1: a policy can allow this address and not the others of this machine.
HOST = "127.0.0.2"


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A running server and what it was asked."""

    port: int
    scheme: str = "http"
    requests: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}/"


Answer = Callable[[BaseHTTPRequestHandler, Seen], None]


@contextlib.contextmanager
def serving(answer: Answer, *, host: str = HOST, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that lets `answer` write whatever it likes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, body)
            server.requests.append(seen)
            with contextlib.suppress(OSError):  # whoever asked has heard enough
                answer(self, seen)
            self.close_connection = True

        do_GET = do_POST = respond  # noqa: N815 - the standard library's names

        def log_message(self, *_: Any) -> None:
            pass

    web = Web((host, 0), Handler)
    if tls is not None:
        web.socket = tls.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    server = Server(web.server_port, "https" if tls else "http")
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()
        thread.join(10)


class Web(ThreadingHTTPServer):
    """Quiet about callers who hang up."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


def answering(
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    host: str = HOST,
    tls: ssl.SSLContext | None = None,
) -> contextlib.AbstractContextManager[Server]:
    """A server that always gives this answer."""

    def answer(handler: BaseHTTPRequestHandler, _: Seen) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return serving(answer, host=host, tls=tls)


@contextlib.contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[Server]:
    """A server that is no web server: it reads a request's head and then does what it likes."""
    listener = socket.create_server((HOST, 0))
    server = Server(listener.getsockname()[1])

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                with caller, contextlib.suppress(OSError):
                    caller.settimeout(30)
                    caller.recv(65536)
                    speak(caller)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)
