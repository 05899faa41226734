"""Keeps the processes of a stack running, and ends them all.

Our own code, because no living library does it: circus 0.19 (2025, pyzmq and tornado) and supervisor
4.3 are daemons with their own configuration and no readiness, honcho 2.0 ends everything when one
process dies; none ties children to its own death. One thread, so that PDEATHSIG means the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

from cli.stack import StackError, sentinel
from cli.stack.child import Child, Service, nothing_to_do

TICK = 0.2  # seconds between looks
MAX_LOG_BYTES = 20 * 1024 * 1024
ROTATE_EVERY = 10.0
LONGEST_BACKOFF = 30.0
SETTLED = 15.0  # a process that lived this long starts again without delay: it did not fail at its start
HOPELESS = 3  # deaths in a row before the stack was ready
SOFT_SECONDS = 9.0  # for workers and api to end their work: a lost lease is taken up at the next start
HARD_SECONDS = 4.0  # for the servers after them; 15 s in all


class Stopping(Exception):
    """A signal asked the stack to end."""


@dataclass
class Watched:
    """A child and its history."""

    child: Child
    started: float
    deaths: int = 0  #: in a row
    due: float | None = None  #: when to start it again; None while it runs


class Supervisor:
    """Starts services in the order they come, restarts what exits, ends all on a signal.

    Use as a context: whatever happens inside, nothing is left running after it.
    """

    def __init__(
        self, tag: str, say: Callable[[str], None], chore: Callable[[], None] = nothing_to_do
    ) -> None:
        """`chore` is called every 10 s beside the rotation of logs; it must be quick and not raise."""
        self.tag = tag
        self._say = say
        self._chore = chore
        self._watched: list[Watched] = []
        self._signals = 0
        self._settled = False
        self._rotated = time.monotonic()
        self._handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        self._sentinel: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for number in self._handlers:
            signal.signal(number, self._on_signal)
        self._sentinel = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", sentinel.__file__, self.tag],
            stdin=subprocess.PIPE,
            env={**os.environ, sentinel.TAG: self.tag},
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> bool:
        self.stop()
        sentinel.sweep(self.tag, 0)  # grandchildren in sessions of their own, and the sentinel itself
        if self._sentinel is not None and self._sentinel.stdin is not None:
            self._sentinel.wait()
            self._sentinel.stdin.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        return kind is Stopping

    def start(self, service: Service) -> Child:
        """Start a process and look after it from now on; it may not be ready yet."""
        self.check()
        return self.adopt(Child(service))

    def adopt(self, child: Child) -> Child:
        """Look after a process that runs already."""
        self._watched.append(Watched(child, time.monotonic()))
        return child

    def replace(self, old: Child, new: Child) -> None:
        """Look after `new` instead of `old`, which has ended."""
        for watched in self._watched:
            if watched.child is old:
                watched.child = new

    def check(self) -> None:
        """Raise Stopping when a signal has come."""
        if self._signals:
            raise Stopping

    def tend(self) -> None:
        """One look: restart what died, rotate logs. Raises Stopping, or StackError before `settle()`."""
        self.check()
        for watched in self._watched:
            if watched.due is None:
                self._look(watched)
            elif time.monotonic() >= watched.due:
                watched.child, watched.due = Child(watched.child.service), None
                watched.started = time.monotonic()
        if time.monotonic() - self._rotated > ROTATE_EVERY:
            self._rotated = time.monotonic()
            self._rotate()
            self._chore()

    def settle(self) -> None:
        """The stack is ready: from now on a process that keeps dying is news, not the end."""
        self._settled = True

    def run(self) -> None:
        """Tend until a signal comes, which raises Stopping."""
        while True:
            self.tend()
            time.sleep(TICK)

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Tend until `ready()`. Raises StackError naming `what` after so many seconds."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.tend()
            if time.monotonic() > deadline:
                raise StackError(f"{what} after {seconds:.0f} s")
            time.sleep(TICK)

    def stop(self) -> None:
        """End all within 15 s, the last started first and servers last; a second signal kills at once."""
        servers = [w.child for w in self._watched if w.child.service.is_server]
        others = [w.child for w in self._watched if not w.child.service.is_server]
        for group, seconds in ((others, SOFT_SECONDS), (servers, HARD_SECONDS)):
            self._stop_group(group[::-1], seconds)
        self._watched.clear()

    def _stop_group(self, children: list[Child], seconds: float) -> None:
        for child in children:
            child.ask_to_stop()
        began = time.monotonic()
        left = children
        while left and self._signals < 2:  # noqa: PLR2004 - the second signal
            passed = time.monotonic() - began
            left = [c for c in left if c.returncode is None and passed < min(seconds, c.service.stop_seconds)]
            time.sleep(0.05)
        for child in children:
            child.kill()

    def _look(self, watched: Watched) -> None:
        child, status = watched.child, watched.child.returncode
        if status is None:
            return
        lived = time.monotonic() - watched.started
        watched.deaths = 1 if lived > SETTLED else watched.deaths + 1
        child.kill()  # what is left of its group
        delay = min(LONGEST_BACKOFF, 0.5 * 2.0 ** (watched.deaths - 1))
        watched.due = time.monotonic() + delay
        news = f"{child.service.name} ended with status {status}"
        if watched.deaths < HOPELESS:
            self._say(f"{news}; starting it again")
        elif self._settled:
            self._say(f"{news}, again; next try in {delay:.0f} s. Its last words: {child.tail()}")
        else:
            raise StackError(f"{news}, again and again: {child.tail()}")

    def _rotate(self) -> None:
        """Copy and truncate: the writer appends, so it goes on at the new end; a line or two may be lost."""
        for log in {w.child.service.log for w in self._watched}:
            with contextlib.suppress(OSError):
                if log.stat().st_size > MAX_LOG_BYTES:
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                    os.truncate(log, 0)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
