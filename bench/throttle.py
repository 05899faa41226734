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
        self.carried = 0  #: bytes so far, both ways together

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: no more
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                sink.sendall(data)
                self.carried += len(data)
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
            self._listener.close()
