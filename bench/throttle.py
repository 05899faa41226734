"""A wire to a server that can be made slow: what a large object meets on a thin line."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

PIECE = 16 * 1024


class Wire:
    """Forwards TCP from a port of its own, at most `rate` bytes a second each way and connection."""

    def __init__(self, host: str, port: int) -> None:
        self._server, self._listener = (host, port), socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.rate: float | None = None  #: None: as fast as it goes
        self._lock = threading.Lock()
        self.carried = 0  #: bytes so far, both ways together

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: no more
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._link, args=(near,), daemon=True).start()

    def _link(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(self._server) as far:
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                with self._lock:
                    self.carried += len(data)
                sink.sendall(data)
                if self.rate is not None:
                    time.sleep(len(data) / self.rate)
        for end in (source, sink):  # either side's end is the end of both
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def open(self) -> Iterator[Wire]:
        """Forward inside the block."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who waits for a call
            self._listener.close()
