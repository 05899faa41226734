"""What an analysis leaves in the storage beside its media, and how that goes when it ends without a report.

Whoever had a step in hand removes it on the way out. The dispatcher does so again a little later, for
what lay between two steps, for a worker that was killed, and for a storage that was away.
"""

from __future__ import annotations

import threading
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from core import analyses, logging
from core.db import read, transaction
from core.errors import StorageError
from core.storage import storage

log = logging.get(__name__)
SWEEP_SECONDS: Final = 10.0


def folder(analysis_id: UUID) -> str:
    """Prefix of all its objects but the media, which other analyses may share."""
    return f"analyses/{analysis_id}/"


def remove_if_unwanted(analysis_id: UUID) -> None:
    """Remove working files and pictures, unless they may still be wanted. Raises nothing expected."""
    try:
        with read() as session:
            unwanted = analyses.is_without_report(session, analysis_id)
        if unwanted:
            storage().delete_prefix(folder(analysis_id))
            log.info("stopped and cleared away", action="step_left")
    except (StorageError, DBAPIError):
        log.warning("objects are left to the dispatcher", action="leftovers_kept", exc_info=True)


def sweep() -> None:
    """Remove what canceled and failed analyses left, and remember that it was done. Raises StorageError."""
    with read() as session:
        found = analyses.uncleared(session)
    for analysis_id in found:
        removed = storage().delete_prefix(folder(analysis_id))
        with transaction() as session:
            analyses.mark_cleared(session, analysis_id)
        log.info("cleared away", action="leftovers_removed", analysis_id=str(analysis_id), objects=removed)


class Sweeper(threading.Thread):
    """Sweeps beside the dispatcher's rounds, which must not wait for a storage that is away."""

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__(name="leftovers", daemon=True)
        self._stopping = stopping

    def run(self) -> None:
        """Sweep until the event is set; a lost database or storage is waited for."""
        while not self._stopping.is_set():
            try:
                sweep()
            except (StorageError, DBAPIError):
                log.warning("leftovers stay for now", action="leftovers_kept", exc_info=True)
            self._stopping.wait(SWEEP_SECONDS)
