"""Something that listens where nobody must ever call."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class Trap:
    """Counts the connections to one port, on every address of this machine, IPv4 and IPv6, or on one."""

    def __init__(self, address: str | None = None) -> None:
        if address is None:
            self._listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._listener = socket.create_server((address, 0))
        self._lock = threading.Lock()
        self._count = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def count(self) -> int:
        """Connections so far, but for our own at this moment: whoever came before it is counted."""
        with socket.create_connection(("127.0.0.1", self.port)) as probe:
            probe.sendall(b"?")
            assert probe.recv(1) == b"!"
        with self._lock:
            return self._count

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                with caller, contextlib.suppress(OSError):
                    caller.settimeout(10)
                    self._greet(caller)

    def _greet(self, caller: socket.socket) -> None:
        with self._lock:
            self._count += 1
        if caller.recv(1) == b"?":
            with self._lock:
                self._count -= 1
            caller.sendall(b"!")
        else:
            caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
