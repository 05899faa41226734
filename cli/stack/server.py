"""What the three servers have in common: a folder, remembered ports, start, readiness, stop."""

from __future__ import annotations

import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from cli.stack import StackError, ports
from cli.stack.child import Child, Service, nothing_to_do
from cli.stack.state import State

ATTEMPTS = 3  # a port may be taken between choosing it and listening on it


class Server(ABC):
    """One server with its own folder below the data directory. Listens on 127.0.0.1 only.

    `prepare()` then `service()` is for a supervisor that owns the process; `start()` and `stop()`
    run it alone, as tests do.
    """

    name: str
    port_names: tuple[str, ...] = ("main",)
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGTERM
    stop_seconds: float = 10

    def __init__(self, data_dir: Path) -> None:
        self.home = data_dir.resolve() / self.name
        self.log = data_dir.resolve() / "logs" / f"{self.name}.log"
        self.tag = str(data_dir.resolve())
        self.state = State(self.home / "state.json")
        self.ports: dict[str, int] = {}
        self._held: list[socket.socket] = []
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """The port that clients use. Raises StackError before the first `prepare()`."""
        if not self.ports:
            raise StackError(
                f"{self.name} has never run in {self.home.parent}: start it with `deepdefend up`"
            )
        return self.ports[self.port_names[0]]

    @property
    def pid(self) -> int:
        """Process id while it was started by `start()`."""
        if self._child is None:
            raise StackError(f"{self.name} is not running")
        return self._child.pid

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it, credentials included."""

    @abstractmethod
    def command(self) -> tuple[str, ...]:
        """The command line; no secret is in it, since every user can read it."""

    @abstractmethod
    def probe(self) -> bool:
        """Whether it does its work, seen through a real request."""

    def identity(self) -> str:
        """The user it runs as; see `cli.stack.launch`."""
        return "-"

    def environment(self) -> Mapping[str, str]:
        """What is added to its environment."""
        return {}

    def clean_up(self) -> None:  # noqa: B027 - most servers leave nothing
        """Remove what the server leaves outside its folder; it has ended."""

    def prepare(self, *, new_ports: bool = False) -> None:
        """Choose ports, hold them until `release()`, write what it reads at start. Safe to repeat."""
        remembered = self.state.read().get("ports", {})
        self.release()
        self.ports = ports.settle(remembered, self.port_names, anew=new_ports)
        self._held = [ports.hold(port) for port in self.ports.values()]
        self.state.update(ports=self.ports)

    def release(self) -> None:
        """Let others choose its ports."""
        for held in self._held:
            held.close()
        self._held.clear()

    def service(self) -> Service:
        """How a supervisor runs it; after `prepare()`."""
        return Service(
            name=self.name,
            command=self.command(),
            log=self.log,
            tag=self.tag,
            probe=self.probe,
            env=self.environment(),
            cwd=self.home,
            stop_signal=self.stop_signal,
            death_signal=self.death_signal,
            identity=self.identity(),
            stop_seconds=self.stop_seconds,
            clean_up=self.clean_up,
            is_server=True,
        )

    def spawn(self, on_wait: Callable[[], None] = nothing_to_do) -> Child:
        """A running, ready server; `on_wait` as in `Child.wait_ready`.

        Raises StackError with its last words when that fails.
        """
        for attempt in range(ATTEMPTS):
            self.prepare(new_ports=attempt > 0)
            child = Child(self.service())
            try:
                child.wait_ready(on_wait)
            except StackError:
                child.stop()
                if attempt == ATTEMPTS - 1:
                    raise
            except BaseException:  # Ctrl-C while waiting must not leave it behind
                child.stop()
                raise
            else:
                return child
        raise AssertionError("unreachable")

    def start(self) -> None:
        """Run it until `stop()`."""
        try:
            self._child = self.spawn()
        except BaseException:
            self.release()
            raise

    def stop(self) -> None:
        """End it in order; nothing to do when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self.release()
