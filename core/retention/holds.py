"""Legal holds: while one lasts, neither retention nor its owner erases anything of an analysis."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from core import analyses, audit
from core.errors import Conflict
from core.keys import Caller
from core.models import Analysis, Erasure, Media


def hold(
    session: Session, caller: Caller, analysis_id: UUID, *, reason: str, request_id: str | None = None
) -> Analysis:
    """Hold the caller's analysis; the same reason again changes nothing.

    Raises NotFound, and Conflict (`erasure_in_progress`) when its file or pictures are on their way out:
    what has been erased already can be held no more, and the hold is for what is left then.
    """
    row = analyses.find_locked(session, caller.owner, analysis_id)
    if row.hold_reason == reason:
        return row
    if row.held_at is None:
        _refuse_half_erased(session, row)
    return _change(
        session, caller, row, audit.Action.HOLD_SET, reason, detail={"reason": reason}, request_id=request_id
    )


def release(
    session: Session, caller: Caller, analysis_id: UUID, *, request_id: str | None = None
) -> Analysis:
    """Let the caller's analysis go; one that is not held stays as it is. Raises NotFound."""
    row = analyses.find_locked(session, caller.owner, analysis_id)
    if row.held_at is None:
        return row
    detail = {"reason": row.hold_reason, "held_at": row.held_at.isoformat()}
    return _change(
        session, caller, row, audit.Action.HOLD_RELEASED, None, detail=detail, request_id=request_id
    )


def _refuse_half_erased(session: Session, row: Analysis) -> None:
    erased_at = session.scalar(select(Media.erased_at).where(Media.id == row.media_id).with_for_update())
    going = session.scalar(select(exists().where(Erasure.analysis_id == row.id)))
    if going or (erased_at is not None and row.media_erased_at is None):
        raise Conflict("its file is being erased; hold what is left in a moment", code="erasure_in_progress")


def _change(
    session: Session,
    caller: Caller,
    row: Analysis,
    action: audit.Action,
    reason: str | None,
    *,
    detail: dict[str, str | None],
    request_id: str | None,
) -> Analysis:
    since = func.coalesce(Analysis.held_at, func.now()) if reason is not None else None
    session.execute(
        update(Analysis)
        .where(Analysis.id == row.id)
        .values(held_at=since, hold_reason=reason, version=Analysis.version + 1)
        .execution_options(synchronize_session=False)
    )
    session.refresh(row)
    audit.record(
        session,
        actor=caller.key_id,
        owner=row.owner,
        action=action,
        subject=row.id,
        detail=dict(detail),
        request_id=request_id,
    )
    return row
