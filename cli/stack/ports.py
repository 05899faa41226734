"""Free TCP ports on the loopback address, remembered between runs."""

from __future__ import annotations

import secrets
import socket

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
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return None


def free_port(avoid: set[int] | None = None) -> int:
    """A free port in `RANGE` that is not in `avoid`."""
    while True:
        port = secrets.choice(RANGE)
        if port not in (avoid or set()) and is_free(port):
            return port


def settle(remembered: dict[str, int], names: tuple[str, ...], *, anew: bool = False) -> dict[str, int]:
    """A free port for each name: the remembered one where it is still free and `anew` is not set."""
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if anew or port is None or not is_free(port):
            port = free_port(set(chosen.values()))
        chosen[name] = port
    return chosen
