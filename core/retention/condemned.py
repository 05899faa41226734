"""The first step of erasing: in one transaction, what must go is fenced, counted and owed to the storage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, and_, delete, exists, func, or_, select
from sqlalchemy.orm import Session, lazyload

from core import analyses, audit
from core.domain import AnalysisStatus
from core.errors import Conflict, NotFound
from core.models import Analysis, Base, Erasure, Media, WebhookAttempt, WebhookDelivery
from core.retention.receipts import Fate, MediaFate, Scope

#: Whoever condemns may carry out as well; the dispatcher looks after it from then on.
OWN_TIME: Final = timedelta(seconds=30)


def media_due_query() -> Select[UUID]:
    """Ids of ended analyses whose file and pictures are to go, the longest due first."""
    return select(Analysis.id).where(*_media_due()).order_by(Analysis.media_until)


def _media_due() -> tuple[ColumnElement[bool], ...]:
    return (
        Analysis.media_until <= func.now(),
        Analysis.media_erased_at.is_(None),
        Analysis.media_until.is_not(None),  # for the index
        Analysis.completed_at.is_not(None),
        Analysis.held_at.is_(None),
        ~exists().where(Erasure.analysis_id == Analysis.id),
    )


def analyses_due_query(after: timedelta) -> Select[UUID]:
    """Ids of analyses that ended longer ago than `after` and are not held."""
    return (
        select(Analysis.id)
        .where(
            Analysis.completed_at.is_not(None),
            Analysis.completed_at <= func.now() - after,
            Analysis.held_at.is_(None),
        )
        .order_by(Analysis.completed_at)
    )


def condemn_media(session: Session, analysis_id: UUID, *, actor: str) -> UUID | None:
    """Owe the deletion of the file and the pictures, if they are due; the id of the erasure.

    None when they are not, not any more, or when somebody else is at it.
    """
    row = _take(session, Analysis.id == analysis_id, *_media_due(), wait=False)
    if row is None:
        return None
    media = _release(session, row)
    return _owe(session, row, Scope.MEDIA, media, actor=actor).id


def condemn_analysis(
    session: Session,
    analysis_id: UUID,
    *,
    actor: str,
    owner: str | None = None,
    request_id: str | None = None,
) -> UUID:
    """End an analysis if it lives, delete its rows and owe the deletion of its objects; the erasure's id.

    Everything that refers to it goes by cascade: steps, whose workers are fenced thereby, intervals,
    tracks, stored answers, deliveries with their bodies. Raises NotFound, also for another owner's, and
    Conflict (`legal_hold`).
    """
    row = _take(session, Analysis.id == analysis_id, *([Analysis.owner == owner] if owner else []), wait=True)
    if row is None:
        raise NotFound("there is no such analysis, or it is not yours")
    if row.held_at is not None:
        raise Conflict("it is under a legal hold", code="legal_hold")
    analyses.transition(session, row.id, AnalysisStatus.CANCELED)
    media = _release(session, row)
    counted = _count(session, row.id)
    session.execute(
        delete(Analysis).where(Analysis.id == row.id).execution_options(synchronize_session=False)
    )
    counted["media"] = _drop_unused(session, row.media_id)
    erasure = _owe(session, row, Scope.ANALYSIS, media, actor=actor, request_id=request_id, rows=counted)
    audit.record(
        session,
        actor=actor,
        owner=row.owner,
        action=audit.Action.ANALYSIS_DELETED,
        subject=row.id,
        detail={"erasure": str(erasure.id), "status": row.status, "rows": counted},
        request_id=request_id,
    )
    return erasure.id


def _take(session: Session, *conditions: ColumnElement[bool], wait: bool) -> Analysis | None:
    """The analysis row, locked before anything else of it is."""
    return session.scalar(
        select(Analysis)
        .options(lazyload(Analysis.media))
        .where(*conditions)
        .with_for_update(of=Analysis, skip_locked=not wait)
        .execution_options(populate_existing=True)
    )


def _release(session: Session, row: Analysis) -> tuple[str | None, MediaFate | None]:
    """Give up the file: the key to be deleted, if any, and what becomes of it. Takes the media row."""
    if row.media_id is None:
        return None, None
    media = session.scalars(
        select(Media)
        .where(Media.id == row.media_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if media.erased_at is not None:
        # Still on its way? Then this erasure deletes it as well, so that its receipt speaks for itself.
        going = session.scalar(select(exists().where(Erasure.object_key == media.object_key)))
        key, fate = (media.object_key, Fate.ERASED) if going else (None, Fate.GONE)
    elif session.scalar(
        select(exists().where(Analysis.media_id == media.id, Analysis.id != row.id, needs_file()))
    ):
        key, fate = None, Fate.KEPT
    else:
        media.erased_at = session.scalar(select(func.now()))
        session.flush()
        key, fate = media.object_key, Fate.ERASED
    return key, MediaFate(sha256=media.sha256, size_bytes=media.size_bytes, fate=fate)


def needs_file() -> ColumnElement[bool]:
    """SQL: the file must stay for the sake of this analysis."""
    return and_(
        Analysis.media_erased_at.is_(None),
        or_(
            Analysis.completed_at.is_(None),
            Analysis.held_at.is_not(None),
            Analysis.media_until.is_(None),
            Analysis.media_until > func.now(),
        ),
    )


def _owe(
    session: Session,
    row: Analysis,
    scope: Scope,
    media: tuple[str | None, MediaFate | None],
    *,
    actor: str,
    request_id: str | None = None,
    rows: dict[str, int] | None = None,
) -> Erasure:
    key, fate = media
    erasure = Erasure(
        analysis_id=row.id,
        scope=scope.value,
        owner=row.owner,
        actor=actor,
        request_id=request_id,
        object_key=key,
        media=fate.model_dump(mode="json") if fate else None,
        rows=rows or {},
        settled_at=_settled(row),
        due_at=func.now() + OWN_TIME,
    )
    session.add(erasure)
    session.flush()
    return erasure


def _settled(row: Analysis) -> ColumnElement[Any]:
    """SQL: from when on no worker that was at work on it can still be writing.

    One that was fenced sees it within seconds (`workers.heart`), but not at once.
    """
    if row.started_at is None or row.status == AnalysisStatus.COMPLETED.value:
        return func.now()  # nobody had begun, or everybody had done
    return func.greatest(func.now(), (row.completed_at or func.now()) + analyses.SETTLED)


def _count(session: Session, analysis_id: UUID) -> dict[str, int]:
    """Rows that go with an analysis, by table. Nobody adds any: that would take the analysis row."""
    counted = {"analyses": 1}
    for table in dependents():
        (column,) = [key.parent for key in table.foreign_keys if key.column.table is Analysis.__table__]
        query = select(func.count()).select_from(table).where(column == analysis_id)
        counted[table.name] = session.scalar(query) or 0
    attempts = (
        select(func.count())
        .select_from(WebhookAttempt)
        .join(WebhookDelivery, WebhookDelivery.id == WebhookAttempt.delivery_id)
    )
    counted["webhook_attempts"] = (
        session.scalar(attempts.where(WebhookDelivery.analysis_id == analysis_id)) or 0
    )
    return counted


def dependents() -> list[Table]:
    """Tables whose rows go with their analysis, by cascade."""
    return [
        table
        for table in Base.metadata.sorted_tables
        if any(key.column.table is Analysis.__table__ for key in table.foreign_keys)
    ]


def _drop_unused(session: Session, media_id: UUID | None) -> int:
    """Delete the media row when no report names it any more; how many that were."""
    gone = session.scalars(
        delete(Media)
        .where(Media.id == media_id, ~exists().where(Analysis.media_id == Media.id))
        .returning(Media.id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(gone)
