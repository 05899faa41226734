"""The API under a real uvicorn, and clients that behave or do not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.protocol import ProblemProtocol

BOUNDARY = "boundary-of-the-tests"


@contextmanager
def serving(app: FastAPI | None = None, **options: Any) -> Iterator[tuple[str, int]]:
    """A uvicorn in a thread on a free port; gives its address once it accepts connections."""
    # With its protocol named asyncio sets TCP_NODELAY as in production, else answers wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    config = uvicorn.Config(
        app or create_app(),
        http=ProblemProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        ws="none",
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def part(name: str, value: bytes | str, *, filename: str | None = None, headers: Sequence[str] = ()) -> bytes:
    """One part of a form, its delimiter included."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + (value.encode() if isinstance(value, str) else value) + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole body."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


class Raw:
    """A caller that writes the bytes of HTTP itself, so that it can lie, stall and hang up."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def head(self, *headers: str, target: str = "/v1/analyses", method: str = "POST") -> None:
        """Send a request's head."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def send(self, data: bytes) -> None:
        """Send body bytes."""
        self.socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and JSON of the next response."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = self.file.read(int(headers.get("content-length", 0)))
        return status, headers, json.loads(body) if body else None

    def closed(self) -> bool:
        """Whether the server has hung up; waits for it to."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True


def eventually(condition: Callable[[], bool], attempts: int = 400) -> bool:
    """Waits for what another process does in its own time; says False rather than never."""
    tick = threading.Event()
    return any(condition() or tick.wait(0.05) for _ in range(attempts))
