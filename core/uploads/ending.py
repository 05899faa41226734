"""How uploads end that no analysis uses: aborted or expired, then dropped, then forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Delete, Select, Update, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from core import logging
from core.db import transaction
from core.errors import Conflict, StorageError
from core.models import Upload
from core.storage import storage
from core.uploads.rows import KEPT, UploadStatus, find

log = logging.get(__name__)
#: How long after its expiry a row can still say what became of it; replays of its key end before.
REMEMBERED: Final = timedelta(hours=24)
#: Uploads that one round of housekeeping drops.
SWEEP_BATCH: Final = 100


def abort(owner: str, upload_id: UUID) -> None:
    """Give an upload up and drop its bytes; aborting again changes nothing.

    Raises NotFound, Conflict when an analysis has used it, and StorageError: aborted it is all the same,
    and `sweep` drops the bytes later.
    """
    with transaction() as session:
        row = find(session, owner, upload_id, lock=True)
        if row.status == UploadStatus.USED:
            raise Conflict("an analysis has used this upload", code="upload_used")
        row.status, row.lease_expires = UploadStatus.ABORTED.value, None
    drop(row)


def drop(row: Upload) -> None:
    """Drop parts and object of an aborted upload, then remember that it was done."""
    if row.multipart_id is not None:
        storage().abort_parts(row.object_key, row.multipart_id)
    storage().delete(row.object_key)
    with transaction() as session:
        session.execute(
            update(Upload)
            .where(Upload.id == row.id, Upload.status == UploadStatus.ABORTED.value)
            .values(multipart_id=None)
        )


def sweep() -> int:
    """Drop what expired unused, and forget rows that nobody asks for any more; how many were tried.

    For the dispatcher's housekeeping. Raises StorageError; what is left then is found again.
    """
    with transaction() as session:
        session.execute(_expiring())
        due = list(session.scalars(_undropped().limit(SWEEP_BATCH)))
    for row in due:
        _try_to_drop(row)
    with transaction() as session:
        session.execute(_forgotten())
    return len(due)


def _try_to_drop(row: Upload) -> None:
    """One that the storage refuses must not keep the others. Raises StorageError when it is away."""
    try:
        drop(row)
        log.info("dropped an upload", action="upload_dropped", upload_id=str(row.id))
    except StorageError:
        storage().check()
        log.warning("refused by the storage", action="upload_kept", upload_id=str(row.id), exc_info=True)


def _expiring() -> Update:
    """Abort what nobody has used in time; one that is being completed is left to its end."""
    free = or_(Upload.lease_expires.is_(None), Upload.lease_expires < func.now())
    return (
        update(Upload)
        .where(Upload.status.in_(KEPT), Upload.expires_at < func.now(), free)
        .values(status=UploadStatus.ABORTED.value)
        .execution_options(synchronize_session=False)
    )


def _undropped() -> Select[Upload]:
    return select(Upload).where(Upload.status == UploadStatus.ABORTED.value, Upload.multipart_id.is_not(None))


def _forgotten() -> Delete:
    """Rows whose bytes are an analysis's, or nobody's, once their last reader has had a day to ask."""
    gone = and_(Upload.status == UploadStatus.ABORTED.value, Upload.multipart_id.is_(None))
    return (
        delete(Upload)
        .where(
            or_(Upload.status == UploadStatus.USED.value, gone), Upload.expires_at < func.now() - REMEMBERED
        )
        .execution_options(synchronize_session=False)
    )


def named_parts(session: Session) -> set[str]:
    """S3's ids of parts that may still be joined: of stale multipart uploads these are not to be dropped."""
    return {
        found
        for found in session.scalars(
            select(Upload.multipart_id).where(Upload.status == UploadStatus.OPEN.value)
        )
        if found is not None
    }
