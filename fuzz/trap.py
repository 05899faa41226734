"""What nobody may touch: a port that answers, a folder that tells who opens what in it."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

_IN_ALL_EVENTS: Final = 0xFFF  # linux/inotify.h
_CONTENT: Final = b"nobody may read this\n"


@dataclass
class Trap:
    """Listening sockets and a watched folder; `touched` says what was met since the last question."""

    tcp: socket.socket
    udp: socket.socket
    folder: Path
    watch: int
    met: list[str] = field(default_factory=list)

    @property
    def bait(self) -> tuple[str, ...]:
        """Addresses to write into files: of the port and of the secret, always of the same length."""
        port, udp = self.tcp.getsockname()[1], self.udp.getsockname()[1]
        secret = self.folder / "secret"
        return (
            f"http://127.0.0.1:{port:05d}/x.ts", f"tcp://127.0.0.1:{port:05d}", f"udp://127.0.0.1:{udp:05d}",
            f"rtsp://127.0.0.1:{port:05d}/x", f"ftp://127.0.0.1:{port:05d}/x", f"file://{secret}",
            str(secret), f"concat:{secret}|{secret}", f"subfile,,start,0,end,0,,:{secret}",
            f"crypto:{secret}",
        )  # fmt: skip

    def touched(self) -> list[str]:
        """Every connection, datagram and look into the folder since the last question."""
        found = [*_accepted(self.tcp), *_received(self.udp), *_looks(self.watch)]
        self.met += found
        return found

    @classmethod
    def lay(cls, folder: Path) -> Self:
        """Listen on this machine and watch `folder`, which is made."""
        folder.mkdir()
        (folder / "secret").write_bytes(_CONTENT)
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        for one in (tcp, udp):
            one.settimeout(0)
        return cls(tcp, udp, folder, _watch(folder))

    def close(self) -> None:
        """Let everything go."""
        self.tcp.close()
        self.udp.close()
        os.close(self.watch)


@contextmanager
def laid(folder: Path) -> Iterator[Trap]:
    """A trap for the length of a block."""
    trap = Trap.lay(folder)
    try:
        yield trap
    finally:
        trap.close()


def _watch(folder: Path) -> int:
    """A descriptor that tells of every opening, reading, writing and making below; into namespaces too."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), _IN_ALL_EVENTS) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return watch


def _looks(watch: int) -> Iterator[str]:
    try:
        events = os.read(watch, 65536)
    except BlockingIOError:
        return
    while events:
        _, mask, _, length = struct.unpack_from("=iIII", events)
        yield f"folder: event {mask:#x} of {events[16 : 16 + length].rstrip(bytes(1)).decode() or 'itself'}"
        events = events[16 + length :]


def _accepted(server: socket.socket) -> Iterator[str]:
    while True:
        try:
            connection, _ = server.accept()
        except BlockingIOError:
            return
        connection.close()
        yield "tcp: a connection"


def _received(server: socket.socket) -> Iterator[str]:
    while True:
        try:
            server.recv(64)
        except BlockingIOError:
            return
        yield "udp: a datagram"
