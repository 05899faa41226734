"""CPU time, which is steady where the clock is not: on a busy machine only it can be compared."""

from __future__ import annotations

import os
import threading
from typing import Self

import psutil

#: The last look at a child may miss this much of it; looking costs a few milliseconds.
EVERY = 0.1


def own_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    return sum(os.times()[:4])


class Descendants:
    """CPU seconds that the processes below this one use inside the context.

    The kernel adds a child's time to its parent only when the parent waits for it, which bubblewrap does
    not do; so the tree is looked at again and again, and of each process the last figure counts.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._first = dict(self._last)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    @property
    def seconds(self) -> float:
        """So far; a process that was there before counts from then on."""
        return sum(last - self._first.get(who, 0.0) for who, last in self._last.items())

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self._look()

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                times, who = process.cpu_times(), (process.pid, process.create_time())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self._last[who] = times.user + times.system
