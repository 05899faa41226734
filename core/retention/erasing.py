"""The second step of erasing: the objects go, and a receipt says so once they have.

Durable actions in order: (1) the objects found are noted in the row, (2) they are deleted, (3) the
receipt is written and the row goes. A process killed before 2 has changed nothing that matters; one
killed between 2 and 3 leaves a row whose next round finds less, and still counts what was noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from core import analyses, audit, failpoints
from core.db import read, transaction
from core.errors import StorageError
from core.models import Analysis, Erasure, Interval, Track
from core.retention import receipts
from core.retention.condemned import condemn_media
from core.retention.receipts import Scope
from core.storage import storage

#: Listings until one is empty: the second shows it, a third has caught somebody writing.
ROUNDS: Final = 5
#: Before the dispatcher tries again what the storage refused.
LATER: Final = timedelta(minutes=1)


def due(session: Session, limit: int) -> list[UUID]:
    """Erasures that nobody is carrying out, the oldest first."""
    query = select(Erasure.id).where(Erasure.due_at <= func.now())
    return list(session.scalars(query.order_by(Erasure.due_at).limit(limit)))


def postpone(session: Session, erasure_id: UUID) -> None:
    """Let others go before one that the storage refused."""
    session.execute(update(Erasure).where(Erasure.id == erasure_id).values(due_at=func.now() + LATER))


def erase_media_if_due(analysis_id: UUID) -> None:
    """File and pictures of an analysis that has just ended with zero retention. Raises StorageError."""
    with transaction() as session:
        erasure_id = condemn_media(session, analysis_id, actor=audit.WORKER)
    if erasure_id is not None:
        carry_out(erasure_id)


def carry_out(erasure_id: UUID) -> bool:
    """Delete the objects; False when somebody may still be writing and it must be done once more.

    May be done twice, also at once. Raises StorageError: it stays owed.
    """
    failpoints.reach(failpoints.Point.ERASURE_CONDEMNED)
    with read() as session:
        erasure = session.get(Erasure, erasure_id)
        if erasure is None:
            return True  # carried out by another
        settled = bool(session.scalar(select(func.now() >= erasure.settled_at)))
    for _ in range(ROUNDS):
        found = _survey(erasure)
        if not found:
            break
        with transaction() as session:
            _note(session, erasure_id, found)
        failpoints.reach(failpoints.Point.ERASURE_NOTED)
        storage().delete_all(found)
    else:
        raise StorageError("deleted objects are still listed")
    failpoints.reach(failpoints.Point.ERASURE_DELETED)
    with transaction() as session:
        return _close(session, erasure, settled=settled)


def _survey(erasure: Erasure) -> dict[str, int]:
    """Keys and sizes of what is there, as the storage lists it now."""
    found = {item.key: item.size_bytes for item in storage().objects(analyses.folder(erasure.analysis_id))}
    if erasure.object_key is not None:
        listed = storage().objects(erasure.object_key)
        found |= {item.key: item.size_bytes for item in listed if item.key == erasure.object_key}
    return found


def _note(session: Session, erasure_id: UUID, found: Mapping[str, int]) -> None:
    session.execute(
        update(Erasure)
        .where(Erasure.id == erasure_id)
        .values(found=Erasure.found.concat(cast(dict(found), JSONB)))
    )


def _close(session: Session, erasure: Erasure, *, settled: bool) -> bool:
    """Write the receipt, or ask the dispatcher to look once more. The analysis row comes first."""
    session.scalar(
        select(Analysis.id).where(Analysis.id == erasure.analysis_id).with_for_update(key_share=True)
    )
    row = session.scalar(select(Erasure).where(Erasure.id == erasure.id).with_for_update())
    if row is None:
        return True
    if not settled:
        row.due_at = row.settled_at
        return False
    at = session.scalars(select(func.clock_timestamp())).one()
    if row.scope == Scope.MEDIA.value:
        _mark(session, row.analysis_id)
    audit.record(
        session,
        actor=row.actor,
        owner=row.owner,
        action=audit.Action.MEDIA_ERASED if row.scope == Scope.MEDIA.value else audit.Action.ANALYSIS_ERASED,
        subject=row.analysis_id,
        detail=receipts.completed(row, at).model_dump(mode="json"),
        request_id=row.request_id,
    )
    session.delete(row)
    return True


def _mark(session: Session, analysis_id: UUID) -> None:
    """What stays of the analysis says that its pictures are gone."""
    session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id)
        .values(media_erased_at=func.now(), artifacts={}, version=Analysis.version + 1)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Track)
        .where(Track.analysis_id == analysis_id)
        .values(thumbnail_key=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(Interval)
        .where(Interval.analysis_id == analysis_id)
        .values(still_key=None)
        .execution_options(synchronize_session=False)
    )
