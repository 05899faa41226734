"""Whether there is room for more work: disks, object storage, and what waits already.

Looked at when somebody wants to submit, at most every FRESH seconds and never twice at once. What
is asked hangs at times (a network disk, a storage behind a dead link), so it is asked in a thread of
its own, and no answer within PATIENCE is an answer too.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter
from sqlalchemy.exc import SQLAlchemyError

from core import logging, quotas
from core.config import settings
from core.db import read
from core.errors import StorageError, Unavailable
from core.storage import storage

log = logging.get(__name__)
#: Seconds for which an answer holds, and for which one is waited for.
FRESH, PATIENCE = 2.0, 4.0
#: Seconds after which another try is worth it.
DISK_RETRY, STORAGE_RETRY, QUEUE_RETRY = 60, 5, 30
#: Seconds in which nothing is sent to a storage that said it is full; then one look is worth it.
FULL_FOR: Final = 15.0


class Full(Unavailable):
    """There is no room for more work at the moment; try again later."""

    def __init__(self, detail: str, *, code: str, retry_after: int) -> None:
        super().__init__(detail, code=code, retry_after=retry_after)


Ask = Callable[[], Full | None]


class Look:
    """One question, asked by whoever comes first and answered to everybody for a while."""

    def __init__(self, ask: Ask, silent: Full) -> None:
        self._ask, self._silent = ask, silent
        self._asking: asyncio.Task[Full | None] | None = None
        self._since = 0.0
        #: One thread: what hangs is not asked again.
        self._thread = CapacityLimiter(1)

    async def answer(self) -> Full | None:
        """Why there is no room; None when there is."""
        asking = self._asking
        if asking is None or asking.cancelled() or (asking.done() and self._age() > FRESH):
            asking = self._asking = asyncio.create_task(self._run())
            self._since = time.monotonic()
        done, _ = await asyncio.wait({asking}, timeout=max(0.0, PATIENCE - self._age()))
        return asking.result() if done else self._silent

    async def _run(self) -> Full | None:
        found = await anyio.to_thread.run_sync(self._ask, limiter=self._thread, abandon_on_cancel=True)
        self._since = time.monotonic()
        return found

    def _age(self) -> float:
        return time.monotonic() - self._since


class Pressure:
    """Everything that a submission needs room in. One a process."""

    def __init__(self) -> None:
        self._disks = Look(_disks, Full("a disk does not answer", code="disk_full", retry_after=DISK_RETRY))
        self._storage = Look(_storage, _storage_away())
        self._queue = Look(_queue, Full("it is too busy to say", code="server_busy", retry_after=QUEUE_RETRY))
        self._full_until = 0.0

    async def refusal(self, *, work: bool) -> Full | None:
        """The first reason not to take more bytes, and, with `work`, another analysis."""
        if time.monotonic() < self._full_until:
            return _storage_full()
        for look in (self._disks, self._storage, *([self._queue] if work else [])):
            found = await look.answer()
            if found is not None:
                return found
        return None

    def storage_is_full(self) -> None:
        """A write was refused for want of room: spare the next callers their bodies for a while."""
        self._full_until = time.monotonic() + FULL_FOR


def _storage_away() -> Full:
    return Full("the object storage does not answer", code="storage_unavailable", retry_after=STORAGE_RETRY)


def _storage_full() -> Full:
    return Full("the object storage is full", code="storage_full", retry_after=DISK_RETRY)


def _disks() -> Full | None:
    """Free bytes that an ordinary user may write, on each disk the settings name."""
    admission, temporary = settings().admission, settings().temp_dir
    for path in (*([temporary] if temporary else []), *admission.disks):
        if _free(path) < admission.min_free_bytes:
            log.warning("too little space is left on a disk", action="disk_full", path=str(path))
            return Full("the disk is nearly full", code="disk_full", retry_after=DISK_RETRY)
    return None


def _free(path: Path) -> int:
    """0 for a folder that is not there: whoever needs it has no room in it either."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def _storage() -> Full | None:
    try:
        storage().check()
    except StorageError as error:
        log.warning("the storage does not answer", action="storage_unavailable", exc_info=error)
        return _storage_away()
    return None


def _queue() -> Full | None:
    """A database that is away is not full; whoever needs it next says so in its own words."""
    most = settings().admission.queued
    try:
        with read() as session:
            waiting = quotas.unfinished(session, most)
    except SQLAlchemyError:
        log.warning("the queue could not be counted", action="queue_unknown", exc_info=True)
        return Full("it is not known how much waits", code="server_busy", retry_after=STORAGE_RETRY)
    if waiting < most:
        return None
    return Full("more work waits than can be done soon", code="server_busy", retry_after=QUEUE_RETRY)
