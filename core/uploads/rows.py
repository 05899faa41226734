"""What an upload is, how it is planned, begun, found and taken."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from core import logging
from core.analyses import StoredUpload
from core.config import MiB, settings
from core.domain import Frozen
from core.errors import Conflict, NotFound, StorageError, TooManyRequests
from core.models import Upload
from core.storage import storage

log = logging.get(__name__)
#: S3's own.
MAX_PARTS: Final = 10_000
#: Waits for the other uploads of the owner that are about to commit. 2 names the purpose.
ALONE: Final = text("SELECT pg_advisory_xact_lock(2, hashtext(:owner))")


class UploadStatus(StrEnum):
    """Where an upload stands."""

    OPEN = "open"  #: parts may be sent
    COMPLETED = "completed"  #: one object, read through and hashed
    USED = "used"  #: its bytes belong to an analysis
    ABORTED = "aborted"  #: given up; its bytes are dropped


#: Its bytes are there, and cost, for nobody but the upload itself.
KEPT: Final = (UploadStatus.OPEN.value, UploadStatus.COMPLETED.value)


class Wanted(Frozen):
    """What its sender announces."""

    size_bytes: int  #: at least 1
    filename: str | None = None
    sha256: str | None = None  #: hex, lower case


class Draft(Frozen):
    """An upload that the storage knows and the database does not yet."""

    wanted: Wanted
    object_key: str
    multipart_id: str
    part_bytes: int


def part_sizes(size_bytes: int, part_bytes: int) -> dict[int, int]:
    """Bytes of each part by its number, from 1; all but the last are equal."""
    count = -(-size_bytes // part_bytes)
    return {n: min(part_bytes, size_bytes - (n - 1) * part_bytes) for n in range(1, count + 1)}


def part_bytes_for(size_bytes: int) -> int:
    """The configured size of a part, or a larger one where S3's number of parts would not do."""
    least = -(-size_bytes // MAX_PARTS)
    return max(settings().uploads.part_bytes, -(-least // MiB) * MiB)


def check_room(session: Session, owner: str) -> None:
    """Raise TooManyRequests when the owner keeps as many uploads as allowed."""
    query = select(func.count()).where(
        Upload.owner == owner, Upload.status.in_(KEPT), Upload.expires_at > func.now()
    )
    limit = settings().uploads.open
    if (session.scalar(query) or 0) >= limit:
        raise TooManyRequests(
            "too many uploads are neither used nor aborted", code="too_many_open_uploads", limit=limit
        )


def draft(wanted: Wanted) -> Draft:
    """Begin an upload in the storage under a name of ours. Raises StorageError."""
    key = f"media/{uuid4()}"
    return Draft(
        wanted=wanted,
        object_key=key,
        multipart_id=storage().open_parts(key),
        part_bytes=part_bytes_for(wanted.size_bytes),
    )


def record(session: Session, owner: str, begun: Draft) -> Upload:
    """The row of a draft. Raises TooManyRequests; an owner's own take turns for the last place."""
    session.execute(ALONE, {"owner": owner})
    check_room(session, owner)
    row = Upload(
        owner=owner,
        status=UploadStatus.OPEN.value,
        object_key=begun.object_key,
        multipart_id=begun.multipart_id,
        part_bytes=begun.part_bytes,
        expires_at=func.now() + settings().uploads.ttl,
        **begun.wanted.model_dump(),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def discard(begun: Draft) -> None:
    """Take back a draft that got no row. Raises nothing expected: what stays is swept as stale."""
    try:
        storage().abort_parts(begun.object_key, begun.multipart_id)
    except StorageError:
        log.warning("parts without a row stay in the storage", action="discard_failed", key=begun.object_key)


def find(session: Session, owner: str, upload_id: UUID, *, lock: bool = False) -> Upload:
    """The owner's upload. Raises NotFound, also for another owner's."""
    query = select(Upload).where(Upload.id == upload_id, Upload.owner == owner)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("there is no such upload, or it is not yours", code="upload_not_found")
    return row


def take(session: Session, owner: str, upload_id: UUID) -> StoredUpload:
    """The upload's bytes for an analysis, in the transaction that submits it; nobody can have them twice.

    Raises NotFound, and Conflict when it is not completed, used already, aborted or expired.
    """
    row = find(session, owner, upload_id, lock=True)
    refuse_ended(row)
    if row.status == UploadStatus.USED:
        raise Conflict("another analysis has used this upload", code="upload_used")
    if row.status != UploadStatus.COMPLETED or row.sha256 is None:
        raise Conflict("the upload has not been completed", code="upload_not_completed")
    row.status = UploadStatus.USED.value
    session.flush()
    return StoredUpload(
        sha256=row.sha256, size_bytes=row.size_bytes, object_key=row.object_key, filename=row.filename
    )


def attribute(session: Session, upload_id: UUID, analysis_id: UUID) -> None:
    """Say which analysis has taken it: the two are erased together."""
    session.execute(update(Upload).where(Upload.id == upload_id).values(analysis_id=analysis_id))


def refuse_ended(row: Upload) -> None:
    """Raise Conflict for an upload whose bytes are gone, or about to be."""
    if row.status == UploadStatus.ABORTED:
        raise Conflict("this upload was aborted", code="upload_aborted")
    if row.status in KEPT and row.expires_at <= datetime.now(UTC):
        raise Conflict("this upload has expired", code="upload_expired")
