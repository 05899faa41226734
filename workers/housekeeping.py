"""What the dispatcher does beside dispatching: erase what is due, and clear up after what was killed.

A thread of its own, since all of it waits for the storage and none of it is urgent. Every chore may be
killed anywhere and done twice, also by two dispatchers at once; what each leaves then is said where it
does it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from core import audit, logging, retention, uploads
from core.config import settings
from core.db import read, transaction
from core.errors import Conflict, NotFound, StorageError
from core.storage import storage
from core.uploads.ending import SWEEP_BATCH
from workers import leftovers
from workers.orphans import OrphanSweep, drop_loose_parts

log = logging.get(__name__)
#: Rows that one round takes of a kind: a large backlog must not hold up the other chores.
BATCH: Final = 100
#: Between two rounds of chores at least, and after an outage.
PAUSE, OUTAGE_PAUSE = timedelta(seconds=1), timedelta(seconds=15)


@dataclass
class Chore:
    """Something to be done again and again; `act` says whether more of it waits."""

    name: str
    act: Callable[[threading.Event], bool]
    every: timedelta
    next_at: float = 0.0  #: of the monotonic clock


def chores() -> list[Chore]:
    """All of them, in the order of their urgency."""
    rarely = min(timedelta(hours=1), settings().retention.orphans)
    return [
        Chore("erasures", erase_due, settings().retention.sweep),
        Chore("leftovers", _clear_leftovers, timedelta(seconds=10)),
        Chore("uploads", _drop_uploads, timedelta(minutes=1)),
        Chore("orphans", OrphanSweep(), rarely),
        Chore("parts", drop_loose_parts, rarely),
    ]


class Housekeeper(threading.Thread):
    """Does the chores until the event is set. A daemon: one that waits for the storage delays no exit."""

    def __init__(self, stopping: threading.Event, to_do: Sequence[Chore] | None = None) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._stopping = stopping
        self._chores = chores() if to_do is None else to_do

    def run(self) -> None:
        """Do what is due, then wait for what is due next."""
        while not self._stopping.is_set():
            for chore in self._chores:
                if not self._stopping.is_set() and time.monotonic() >= chore.next_at:
                    chore.next_at = time.monotonic() + self._do(chore).total_seconds()
            ahead = min((chore.next_at for chore in self._chores), default=0.0) - time.monotonic()
            self._stopping.wait(max(ahead, PAUSE.total_seconds()))

    def _do(self, chore: Chore) -> timedelta:
        """Do it once; how long until it is to be done again."""
        try:
            more = chore.act(self._stopping)
        except (StorageError, DBAPIError, PoolTimeout):
            log.warning("put off", action="chore_put_off", chore=chore.name, exc_info=True)
            return min(chore.every, OUTAGE_PAUSE)
        except Exception:  # whatever it is: a fault in one chore must not end all of them for good
            log.exception("a chore failed", action="chore_failed", chore=chore.name)
            return chore.every
        return PAUSE if more else chore.every


def erase_due(stopping: threading.Event) -> bool:
    """Condemn what is past its time, then carry out what is owed; True when more waits."""
    more = _condemn(stopping)
    with read() as session:
        owed = retention.due(session, BATCH)
    for erasure_id in owed:
        if stopping.is_set():
            return False
        _carry_out(erasure_id)
    return more or len(owed) == BATCH


def _condemn(stopping: threading.Event) -> bool:
    """Each in a transaction of its own: none waits for the locks of another while holding its own."""
    whole = settings().retention.analyses
    with read() as session:
        media = list(session.scalars(retention.media_due_query().limit(BATCH)))
        old = [] if whole is None else list(session.scalars(retention.analyses_due_query(whole).limit(BATCH)))
    for analysis_id in media:
        if not stopping.is_set():
            with transaction() as session:
                owed = retention.condemn_media(session, analysis_id, actor=audit.DISPATCHER)
            if owed is not None:
                _carry_out(owed)
    for analysis_id in old:
        # Held or deleted meanwhile: then it is not due any more.
        if not stopping.is_set():
            with suppress(NotFound, Conflict):
                with transaction() as session:
                    owed = retention.condemn_analysis(session, analysis_id, actor=audit.DISPATCHER)
                _carry_out(owed)
    return BATCH in {len(media), len(old)}


def _carry_out(erasure_id: UUID) -> None:
    """One that the storage refuses, and no other, is put off. Raises StorageError when it is away."""
    try:
        done = retention.carry_out(erasure_id)
    except StorageError:
        storage().check()
        log.warning(
            "refused by the storage", action="erasure_refused", erasure_id=str(erasure_id), exc_info=True
        )
        with transaction() as session:
            retention.postpone(session, erasure_id)
    else:
        log.info("erased" if done else "to be looked at again", action="erased", erasure_id=str(erasure_id))


def _clear_leftovers(_: threading.Event) -> bool:
    leftovers.sweep()
    return False


def _drop_uploads(_: threading.Event) -> bool:
    return uploads.sweep() == SWEEP_BATCH
