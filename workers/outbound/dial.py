"""Connections to addresses that were checked before, within one budget of time.

httpcore asks for a host; what it gets is a connection to one of the pinned addresses, whatever the
name resolves to by now. Waiting is cut into slices, so that a cancellation is noticed, and a server that
sends a byte a minute ends with the budget like one that is silent.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import httpcore2

from core.errors import Unreachable

SLICE: Final = 0.5  # seconds between two looks at the checkpoint
#: More addresses than a service has; a name with thousands must not cost a dial each.
MOST_ADDRESSES: Final = 8
#: A response's head, the interim ones before it included; h11 alone would take a new 100 KiB for each.
HEAD_BYTES: Final = 64 * 1024


def timed_out() -> Unreachable:
    """Out of time, wherever that was."""
    return Unreachable("the server did not answer in time", code="timed_out")


class Budget:
    """Time that is left for a call, however many connections and reads it takes."""

    def __init__(self, total: timedelta, checkpoint: Callable[[], None] = lambda: None) -> None:
        self._end = time.monotonic() + total.total_seconds()
        self._checkpoint = checkpoint

    def left(self) -> float:
        """Seconds; raises Unreachable `timed_out` when there are none, and what the checkpoint raises."""
        self._checkpoint()
        left = self._end - time.monotonic()
        if left <= 0:
            raise timed_out()
        return left

    def wait(self, ready: Callable[[float], bool], at_most: float) -> None:
        """Ask `ready(seconds)` until it is true. Raises Unreachable `timed_out` after `at_most` seconds."""
        end = time.monotonic() + at_most
        while not ready(min(SLICE, self.left(), max(end - time.monotonic(), 0.0))):
            if time.monotonic() >= end:
                raise timed_out()


class Wire(httpcore2.NetworkStream):
    """A connection whose every wait is bounded by the budget and by `idle` seconds of silence."""

    def __init__(self, sock: socket.socket, budget: Budget, idle: float) -> None:
        self._sock, self._budget, self._idle = sock, budget, idle
        self._head: int | None = HEAD_BYTES

    def head_is_read(self) -> None:
        """From now on what comes is the body, whose size the reader bounds."""
        self._head = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; none at the end. Raises Unreachable, and what the checkpoint raises."""
        del timeout  # the budget is stricter than httpcore's limit per read
        if self._head is not None and self._head <= 0:
            raise Unreachable("the head of the answer is too long", code="bad_answer")
        found: list[bytes] = []

        def ready(seconds: float) -> bool:
            self._sock.settimeout(max(seconds, 0.001))
            with contextlib.suppress(TimeoutError):
                found.append(self._sock.recv(max_bytes))
            return bool(found)

        try:
            self._budget.wait(ready, self._idle)
        except OSError:
            raise _lost() from None
        if self._head is not None:
            self._head -= len(found[0])
        return found[0]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of the bytes. Raises httpcore2.WriteError, after which an early answer may still be read."""
        del timeout
        rest = memoryview(buffer)
        while rest:
            self._sock.settimeout(min(self._budget.left(), self._idle))
            try:
                rest = rest[self._sock.send(rest) :]
            except TimeoutError:
                raise timed_out() from None
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from None

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """The same connection, encrypted, with its certificate checked for the name."""
        del timeout
        try:
            secured = ssl_context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except (OSError, ValueError):  # a name that no certificate can have, or the connection is gone
            self.close()
            raise _tls_failed() from None
        self._sock = secured

        def ready(seconds: float) -> bool:
            secured.settimeout(max(seconds, 0.001))
            try:
                secured.do_handshake()
            except TimeoutError:
                return False
            return True

        try:
            self._budget.wait(ready, self._idle)
        except ssl.SSLError as error:
            self.close()
            raise (_lost() if isinstance(error, ssl.SSLEOFError) else _tls_failed()) from None
        except OSError:
            self.close()
            raise _lost() from None
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks to know; never a protocol other than HTTP/1.1."""
        return self._sock if info == "socket" else None


def _lost() -> Unreachable:
    return Unreachable("the connection broke", code="connection_lost")


def _tls_failed() -> Unreachable:
    return Unreachable("the server's certificate or encryption was not accepted", code="tls_failed")


class Pinned(httpcore2.NetworkBackend):
    """Connects to the given addresses only, one after another."""

    def __init__(
        self, addresses: Sequence[str], budget: Budget, *, connect: timedelta, idle: timedelta
    ) -> None:
        self._addresses, self._budget = addresses[:MOST_ADDRESSES], budget
        self._connect, self._idle = connect.total_seconds(), idle.total_seconds()
        self.wire: Wire | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first address that takes one. Raises Unreachable."""
        del host, timeout, local_address, socket_options  # the name was resolved once, before
        end = time.monotonic() + self._connect
        error = Unreachable("no connection to the server", code="connect_failed")
        for tried, address in enumerate(self._addresses):
            share = (end - time.monotonic()) / (len(self._addresses) - tried)
            try:
                self.wire = Wire(dial(address, port, self._budget, share), self._budget, self._idle)
            except Unreachable as failure:
                self._budget.left()  # raises where it was the whole budget that ran out
                error = failure
            else:
                return self.wire
        raise error

    def hang_up(self) -> None:
        """Close what was opened, also when httpcore never got it."""
        if self.wire is not None:
            self.wire.close()


def dial(address: str, port: int, budget: Budget, at_most: float) -> socket.socket:
    """A connection to one IP address. Raises Unreachable after `at_most` seconds or a refusal."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        _connect(sock, address, port, budget, at_most)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise Unreachable("no connection to the server", code="connect_failed") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: str, port: int, budget: Budget, at_most: float) -> None:
    begun = sock.connect_ex((address, port))
    if begun not in {0, errno.EINPROGRESS}:
        raise OSError(begun, "connect")
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    budget.wait(lambda seconds: bool(poll.poll(seconds * 1000)), at_most)
    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, "connect")


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """The system's authorities, or those of SSL_CERT_FILE; read once."""
    return httpcore2.default_ssl_context()
