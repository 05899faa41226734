"""From parts to an object that was read through: one at a time, and again after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from core import failpoints
from core.db import transaction
from core.errors import ChecksumMismatch, CompletionInProgress, Conflict, NotFound, StorageError
from core.models import Upload
from core.storage import Digest, StoredPart, storage
from core.uploads.ending import abort, drop
from core.uploads.rows import UploadStatus, find, part_sizes, refuse_ended

#: Of a completion; renewed while the object is read, so a killed one is over within this.
LEASE: Final = timedelta(seconds=30)
RENEW_SECONDS: Final = 5.0
#: The most seconds a second completion is told to wait: a healthy one may end long before its lease.
LONGEST_WAIT: Final = 5


def received(row: Upload) -> dict[int, StoredPart]:
    """The parts of an open upload that have arrived whole. Raises StorageError, NotFound once joined."""
    sizes = part_sizes(row.size_bytes, row.part_bytes)
    found = storage().parts(row.object_key, row.multipart_id or "")
    return {n: part for n, part in found.items() if part.size_bytes == sizes.get(n)}


def complete(owner: str, upload_id: UUID, *, etags: Sequence[tuple[int, str]] = ()) -> Upload:
    """Join the parts, read the object through, and keep it if it is what was announced.

    Asked again it gives the same answer. With `etags`, a part that S3 knows by another one is refused.
    Raises NotFound, Conflict (parts_missing, parts_changed, upload_aborted, upload_expired),
    CompletionInProgress, ChecksumMismatch and StorageError.
    """
    with transaction() as session:
        row = _lease(session, owner, upload_id)
    if row.status in {UploadStatus.COMPLETED, UploadStatus.USED}:
        return row
    lease = _Lease(row)
    try:
        found = _joined(row, lease, etags)
    except BaseException:  # whatever it was, the next one need not wait for the lease
        lease.release()
        raise
    failpoints.reach(failpoints.Point.UPLOAD_JOINED)
    return _close(row, found)


def _lease(session: Session, owner: str, upload_id: UUID) -> Upload:
    """Keep others from completing it. A row that is open afterwards is ours."""
    row = find(session, owner, upload_id, lock=True)
    if row.status in {UploadStatus.COMPLETED, UploadStatus.USED}:
        return row
    now = session.scalars(select(func.clock_timestamp())).one()
    if row.lease_expires is not None and row.lease_expires > now:
        left = math.ceil((row.lease_expires - now).total_seconds())
        raise CompletionInProgress(retry_after=min(left, LONGEST_WAIT))
    refuse_ended(row)
    row.lease_expires = now + LEASE
    session.flush()
    return row


class _Lease:
    """Ours for as long as the row holds the moment that we wrote: whoever took it over wrote another."""

    def __init__(self, row: Upload) -> None:
        self._upload_id, self._expires = row.id, row.lease_expires
        self._due = time.monotonic() + RENEW_SECONDS

    def checkpoint(self) -> None:
        """Renew it every few seconds. Raises CompletionInProgress when it is another's by now."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + RENEW_SECONDS
        with transaction() as session:
            renewed = session.scalar(self._write(func.clock_timestamp() + LEASE))
        if renewed is None:
            raise CompletionInProgress(retry_after=LONGEST_WAIT)
        self._expires = renewed

    def release(self) -> None:
        """Let the next one begin at once, unless somebody has."""
        with transaction() as session:
            session.execute(self._write(None))

    def _write(self, expires: Any) -> ReturningUpdate[Any]:
        return (
            update(Upload)
            .where(Upload.id == self._upload_id, Upload.lease_expires == self._expires)
            .values(lease_expires=expires)
            .returning(Upload.lease_expires)
            .execution_options(synchronize_session=False)
        )


def _joined(row: Upload, lease: _Lease, etags: Sequence[tuple[int, str]]) -> Digest:
    """Make the object, unless a former try has, and read it through."""
    fresh = _join(row, etags)
    try:
        return storage().digest(row.object_key, checkpoint=lease.checkpoint)
    except NotFound as error:
        if fresh:  # aborted a moment ago, or a storage that shows things late: the next try sees which
            raise StorageError(f"{row.object_key} is not there though its parts were joined") from error
        # Neither parts nor object: somebody aborted it, or the bucket's own rules did.
        abort(row.owner, row.id)
        raise Conflict("the storage no longer has this upload", code="upload_aborted") from error


def _join(row: Upload, etags: Sequence[tuple[int, str]]) -> bool:
    """Make the object; False when it was made before. Raises Conflict when it cannot be made yet."""
    try:
        parts = received(row)
        missing = [n for n in part_sizes(row.size_bytes, row.part_bytes) if n not in parts]
        if missing:
            raise Conflict("parts are missing", code="parts_missing", missing=missing)
        changed = sorted({n for n, etag in etags if n not in parts or not _same(parts[n].etag, etag)})
        if changed:
            raise Conflict("the storage has other parts than these", code="parts_changed", changed=changed)
        storage().join_parts(row.object_key, row.multipart_id or "", parts)
    except NotFound:
        return False
    return True


def _same(one: str, other: str) -> bool:
    """S3 writes ETags with quotation marks, libraries hand them on with or without."""
    return one.strip('"') == other.strip('"')


def _close(row: Upload, found: Digest) -> Upload:
    """Completed with what was found, or aborted if that is not what was announced."""
    if found.size_bytes != row.size_bytes or row.sha256 not in {None, found.sha256}:
        abort(row.owner, row.id)
        raise ChecksumMismatch(sha256=found.sha256, size_bytes=found.size_bytes)
    with transaction() as session:
        moved = session.execute(
            update(Upload)
            .where(Upload.id == row.id, Upload.status == UploadStatus.OPEN.value)
            .values(
                status=UploadStatus.COMPLETED.value,
                sha256=found.sha256,
                completed_at=func.now(),
                lease_expires=None,
            )
            .execution_options(synchronize_session=False)
        )
        current = find(session, row.owner, row.id)
    if current.status == UploadStatus.ABORTED:  # while we were reading: who aborted it saw no object yet
        drop(row)
    if not (isinstance(moved, CursorResult) and moved.rowcount == 1):
        refuse_ended(current)
    return current
