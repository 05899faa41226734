"""Free TCP ports, remembered between runs and held until the server listens."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Collection

from cli.stack import StackError

#: Below the kernel's range for outgoing connections (32768…), so that no client socket takes
#: a remembered port while the stack is down.
RANGE = range(20_000, 32_000)
LAST = 65535
LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on it now."""
    return why_taken(port, host) is None


def must_be_free(port: int, host: str, option: str) -> None:
    """Raise StackError, naming the option that chooses another port, when it cannot be listened on."""
    why = why_taken(port, host)
    if why:
        raise StackError(f"cannot listen on {host} port {port} ({why}); choose another with {option}")


def why_taken(port: int, host: str) -> str | None:
    """Why no server can listen on it now; None when one can."""
    if not 0 < port <= LAST:
        return f"ports go from 1 to {LAST}"
    try:
        with _bound(port, host) as probe:
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


def hold(port: int, host: str = LOOPBACK) -> socket.socket:
    """Keep a port from being chosen by `free_port` of any other process, until the socket is closed.

    A server can listen on it all the same: the socket is bound with SO_REUSEADDR and does not listen.
    """
    return _bound(port, host)


def free_port(avoid: Collection[int] = ()) -> int:
    """A port in `RANGE`, not in `avoid`, that nobody uses or holds."""
    while True:
        port = secrets.choice(RANGE)
        if port not in avoid and not _is_held(port):
            return port


def settle(remembered: dict[str, int], names: tuple[str, ...], *, anew: bool = False) -> dict[str, int]:
    """A free port for each name: the remembered one where it is still free and `anew` is not set."""
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if anew or port is None or port in chosen.values() or not is_free(port):
            port = free_port(chosen.values())
        chosen[name] = port
    return chosen


def _bound(port: int, host: str, *, shared: bool = True) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _is_held(port: int) -> bool:
    try:
        _bound(port, LOOPBACK, shared=False).close()
    except OSError:
        return True
    return False
