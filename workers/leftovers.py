"""What an analysis leaves in the storage beside its media, and how that goes when nobody wants it.

Whoever had a step in hand removes it on the way out when the analysis was deleted, canceled or has failed.
The dispatcher does so again a little later, for what lay between two steps, for a worker that was killed,
and for a storage that was away.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import DBAPIError

from core import analyses, logging
from core.analyses import folder
from core.db import read, transaction
from core.errors import StorageError
from core.storage import storage

log = logging.get(__name__)
__all__ = ["folder", "remove_if_unwanted", "sweep"]


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
    """Remove what canceled and failed analyses left, and remember that it was done. Raises StorageError.

    Killed between the two, it removes nothing again and remembers.
    """
    with read() as session:
        found = analyses.uncleared(session)
    for analysis_id in found:
        with read() as session:  # held since the list was made: a slow storage may have taken minutes
            wanted = not analyses.is_without_report(session, analysis_id)
        if wanted:
            continue
        removed = storage().delete_prefix(folder(analysis_id))
        with transaction() as session:
            analyses.mark_cleared(session, analysis_id)
        log.info("cleared away", action="leftovers_removed", analysis_id=str(analysis_id), objects=removed)
