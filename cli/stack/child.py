"""One process of the stack: started in its own group, tied to its parent, logged, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.stack import StackError, launch
from cli.stack.sentinel import TAG


def always_ready() -> bool:
    """The probe of a process that is ready as soon as it runs."""
    return True


def nothing_to_do() -> None:
    """The default of every hook here."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to run, and how to see that it works."""

    name: str
    command: tuple[str, ...]
    log: Path
    tag: str  #: value of `TAG` in its environment: what a sweep finds it by
    probe: Callable[[], bool] = always_ready  #: a real request to the server; must not raise
    env: Mapping[str, str] = field(default_factory=dict)  #: added to the parent's
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM  #: asks for an orderly end
    death_signal: signal.Signals = signal.SIGTERM  #: sent by the kernel when the parent dies
    identity: str = "-"  #: see `cli.stack.launch`
    is_server: bool = False  #: ended after all that are not
    start_seconds: float = 60  #: how long it may take until `probe` says yes
    stop_seconds: float = 10  #: how long it may take to end in order before it is killed
    clean_up: Callable[[], None] = nothing_to_do  #: called when it has ended


class Child:
    """A running `Service`. Start it from a thread that lives as long as it: PDEATHSIG is per thread."""

    def __init__(self, service: Service) -> None:
        self.service = service
        service.log.parent.mkdir(parents=True, exist_ok=True)
        with service.log.open("ab") as log:  # appending, so that truncation by rotation is safe
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-I", "-S", launch.__file__, *self._launch_arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=service.cwd,
                env={**os.environ, **service.env, TAG: service.tag},
                process_group=0,
            )

    def _launch_arguments(self) -> list[str]:
        s = self.service
        return [str(os.getpid()), str(int(s.death_signal)), s.identity, "--", *s.command]

    @property
    def pid(self) -> int:
        """Process id, which is also its group's."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def wait_ready(self, on_wait: Callable[[], None] = nothing_to_do) -> None:
        """Return when the probe says yes; `on_wait` is called between tries and may raise.

        Raises StackError with the log's tail when the process ends or takes too long.
        """
        deadline = time.monotonic() + self.service.start_seconds
        while not self.service.probe():
            on_wait()
            if self.returncode is not None:
                raise StackError(f"{self.service.name} ended at once: {self.tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.service.name} does not answer: {self.tail()}")
            time.sleep(0.05)

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process itself, which knows how to end its own children."""
        if self.returncode is None:
            self._process.send_signal(self.service.stop_signal)

    def stop(self, grace: float | None = None) -> None:
        """Ask, wait up to `grace` (`stop_seconds`) seconds, then kill; its whole group is gone then."""
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.service.stop_seconds if grace is None else grace)
        self.kill()

    def kill(self) -> None:
        """End whatever is left of the process and its group, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self.service.clean_up()

    def tail(self, lines: int = 3) -> str:
        """The end of the log on one line: what a person needs when the process keeps dying."""
        return tail(self.service.log, lines)


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, joined by ` | `."""
    try:
        text = log.read_bytes()[-8192:].decode(errors="replace")
    except OSError:
        return "(no log)"
    said = [line.strip() for line in text.splitlines() if line.strip(" ~^")]  # a traceback underlines
    return " | ".join(said[-lines:]) or "(empty log)"
