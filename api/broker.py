"""Whether the broker answers a PING. The API has no other business with it, so it needs no client."""

from __future__ import annotations

import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from core.config import settings

#: Seconds for connecting and for answering.
PATIENCE = 2.0
REDIS_PORT = 6379
SCHEMES: Final = frozenset({"redis", "rediss"})
#: `-NOAUTH` too: whoever asks for a password is alive, and the password is the workers' business.
SIGNS_OF_LIFE: Final = (b"+PONG", b"-NOAUTH")


def alive() -> bool | None:
    """True when it answers, False when it does not, None for a broker that speaks something else."""
    url = urlsplit(settings().broker_url.get_secret_value())
    if url.scheme not in SCHEMES or url.hostname is None:
        return None
    try:
        with socket.create_connection((url.hostname, url.port or REDIS_PORT), PATIENCE) as plain:
            if url.scheme == "redis":
                return _ping(plain)
            with ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname) as tls:
                return _ping(tls)
    except OSError:
        return False


def _ping(connection: socket.socket) -> bool:
    """Inline PING; the answer may come in pieces."""
    connection.sendall(b"PING\r\n")
    answer = b""
    while not answer.endswith(b"\r\n") and (piece := connection.recv(256)):
        answer += piece
    return answer.startswith(SIGNS_OF_LIFE)
