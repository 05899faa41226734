"""Every change of an analysis. Its status moves only through `transition`, and ends once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, lazyload
from uuid_utils.compat import uuid7

from core import quotas, steps
from core.config import settings
from core.domain import (
    ANALYSIS_TRANSITIONS,
    TERMINAL,
    AnalysisStatus,
    Frozen,
    Options,
    Stage,
    StepStatus,
    Terms,
)
from core.errors import Conflict, DeepDefendError, Fenced, NotFound
from core.keys import Caller
from core.models import Analysis, Media, Step
from core.webhooks import endpoints, events

#: How a submission that asks for nothing is served.
ORDINARY: Final = Terms()
#: Ends that leave nothing to be looked at but the row.
WITHOUT_REPORT: Final = (AnalysisStatus.CANCELED.value, AnalysisStatus.FAILED.value)
#: How long after such an end whoever was at work may still write objects: they need 5 s at most.
SETTLED: Final = timedelta(seconds=30)
#: Added to the longest life of an analysis when looking for those that ended so of late.
MARGIN: Final = timedelta(hours=6)
#: In the detail of an extraction: no object but the media is left of its analysis.
CLEARED: Final = "cleared"
#: Prefix of the objects of analyses, and of the files that were sent.
FOLDERS: Final = "analyses/"
FILES: Final = "media/"


class StoredUpload(Frozen):
    """Bytes that are in the storage but belong to no analysis yet."""

    sha256: str  #: hex
    size_bytes: int
    object_key: str
    filename: str | None = None


class RemoteFile(Frozen):
    """A file that the extraction queue is to fetch."""

    url: str


class Submission:
    """An accepted analysis, and the object that turned out to be stored already."""

    def __init__(self, analysis: Analysis, surplus_key: str | None) -> None:
        self.analysis = analysis
        #: Delete this object after the commit: the owner had the same bytes before.
        self.surplus_key = surplus_key


def submit(
    session: Session,
    *,
    caller: Caller,
    source: StoredUpload | RemoteFile,
    options: Options,
    terms: Terms = ORDINARY,
    metadata: dict[str, Any] | None = None,
) -> Submission:
    """Accept an analysis: media, analysis and its first step in one transaction.

    Raises TooManyRequests when too many of the key's have not ended, UnsafeUrl or InvalidOption for a
    `webhook_url` that could never be told.
    """
    endpoints.check_address(session, caller.owner, terms.webhook_url)
    quotas.take_place(session, caller.key_id)
    media = _media_of(session, caller.owner, source) if isinstance(source, StoredUpload) else None
    analysis = accept(
        session,
        caller=caller,
        media=media,
        source_url=source.url if isinstance(source, RemoteFile) else None,
        filename=source.filename if isinstance(source, StoredUpload) else None,
        options=options,
        terms=terms,
        metadata=metadata or {},
    )
    stored = source.object_key if isinstance(source, StoredUpload) else None
    return Submission(analysis, stored if media is not None and media.object_key != stored else None)


def accept(
    session: Session,
    *,
    caller: Caller,
    media: Media | None,
    source_url: str | None,
    filename: str | None,
    options: Options,
    terms: Terms,
    metadata: dict[str, Any],
    derived_from: UUID | None = None,
) -> Analysis:
    """Write an analysis and owe its first step; its place among the key's has been taken."""
    analysis = Analysis(
        id=uuid7(),
        owner=caller.owner,
        media=media,
        source_url=source_url,
        filename=filename,
        derived_from=derived_from,
        lane=terms.lane.value,
        key_prefix=caller.key_id,
        webhook_url=terms.webhook_url,
        retention_hours=terms.retention_hours,
        options=options.model_dump(mode="json"),
        metadata_=metadata,
        status=AnalysisStatus.QUEUED.value,
        deadline=func.now() + _time_for(terms),
    )
    session.add(analysis)
    session.flush()
    session.refresh(analysis)
    steps.owe(session, analysis.id, [steps.NewStep(stage=Stage.EXTRACT)])
    return analysis


def _time_for(terms: Terms) -> timedelta:
    """What the submitter allows, but never more than the server does."""
    longest = settings().deadline.total_seconds()
    return timedelta(seconds=min(longest, terms.deadline_seconds or longest))  # asked for is any integer


def _media_of(session: Session, owner: str, upload: StoredUpload) -> Media:
    """The one media row of these bytes, locked; two uploads at once agree on it through the unique key.

    Bytes that were erased are stored again, under the new key: the old one is never used twice, so that
    an erasure still on its way deletes nothing of ours. It locks the same row (core.retention): either
    it sees this analysis and keeps the object, or this sees `erased_at` and brings its own.
    """
    offered = insert(Media).values(
        id=uuid7(),
        owner=owner,
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        object_key=upload.object_key,
    )
    kept = case((Media.erased_at.is_(None), Media.object_key), else_=offered.excluded.object_key)
    agreed = offered.on_conflict_do_update(
        index_elements=[Media.owner, Media.sha256], set_={"object_key": kept, "erased_at": None}
    ).returning(Media)
    return session.scalars(agreed, execution_options={"populate_existing": True}).one()


def attach(session: Session, claim: steps.Claim, upload: StoredUpload) -> str | None:
    """Give an analysis the file that was fetched for it, as long as the step is held. Raises Fenced.

    Returns the key of an object to delete after the commit: the owner had the same bytes before.
    """
    take_hold(session, claim)
    analysis = load(session, claim.analysis_id)
    media = _media_of(session, analysis.owner, upload)
    analysis.media, analysis.filename = media, upload.filename
    return None if media.object_key == upload.object_key else upload.object_key


def take_hold(session: Session, claim: steps.Claim) -> None:
    """Begin a write that does not close its step: takes the analysis row, then the step. Raises Fenced."""
    touch(session, claim.analysis_id)
    if claim.step_id not in steps.beat(session, [claim], settings().steps):
        raise Fenced


def find_locked(session: Session, owner: str, analysis_id: UUID) -> Analysis:
    """The owner's analysis, its row locked against erasing and ending alone. Raises NotFound."""
    row = session.scalar(
        select(Analysis)
        .options(lazyload(Analysis.media))
        .where(Analysis.id == analysis_id, Analysis.owner == owner)
        .with_for_update(of=Analysis)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound("there is no such analysis, or it is not yours")
    return row


def find(session: Session, owner: str, analysis_id: UUID) -> Analysis:
    """The owner's analysis. Raises NotFound, also for another owner's."""
    row = session.scalar(select(Analysis).where(Analysis.id == analysis_id, Analysis.owner == owner))
    if row is None:
        raise NotFound("there is no such analysis, or it is not yours")
    return row


def load(session: Session, analysis_id: UUID) -> Analysis:
    """An analysis for a worker, which acts for every owner. Raises NotFound."""
    row = session.get(Analysis, analysis_id)
    if row is None:
        raise NotFound("there is no such analysis")
    return row


def transition(session: Session, analysis_id: UUID, to: AnalysisStatus, **values: Any) -> bool:
    """Move an analysis to a status that may follow the one it has; False when it may not.

    Ending it also closes its open steps, so that a worker still busy with one is fenced, and owes the
    news to whoever asked for it.
    """
    sources = [status.value for status, after in ANALYSIS_TRANSITIONS.items() if to in after]
    if to in TERMINAL:
        values["completed_at"] = func.clock_timestamp()
        values["media_until"] = _media_until()
    result = session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id, Analysis.status.in_(sources))
        .values(status=to.value, version=Analysis.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    moved = isinstance(result, CursorResult) and result.rowcount == 1
    if moved and to in TERMINAL:
        steps.abandon(session, analysis_id, f"analysis_{to.value}")
        events.owe_end(session, analysis_id, to)
    return moved


def _media_until() -> ColumnElement[datetime | None]:
    """SQL: when file and pictures of an analysis that ends now are to go; null: they are kept."""
    asked = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, Analysis.retention_hours)
    ours = settings().retention.media
    return case(
        (Analysis.retention_hours.is_not(None), asked),
        else_=None if ours is None else func.clock_timestamp() + ours,
    )


def folder(analysis_id: UUID) -> str:
    """Prefix of all its objects but the media, which other analyses may share."""
    return f"{FOLDERS}{analysis_id}/"


def begin(session: Session, analysis_id: UUID) -> None:
    """A worker has claimed a step: the analysis is being worked on, and watchers should look."""
    if not transition(session, analysis_id, AnalysisStatus.PROCESSING, started_at=func.now()):
        touch(session, analysis_id)


def touch(session: Session, analysis_id: UUID) -> None:
    """Something visible changed: the version, and with it the ETag, grows.

    Comes first in a transaction that also changes steps: it takes the analysis row.
    """
    session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id)
        .values(version=Analysis.version + 1)
        .execution_options(synchronize_session=False)
    )


def fail(session: Session, analysis_id: UUID, error: DeepDefendError) -> bool:
    """End an analysis that can have no report; the problem document says why."""
    return transition(session, analysis_id, AnalysisStatus.FAILED, error=error.problem())


def cancel(session: Session, owner: str, analysis_id: UUID) -> Analysis:
    """End the owner's analysis without a report; once canceled, canceling again changes nothing.

    Raises NotFound, and Conflict when it ended otherwise. Whoever works on it is fenced with the
    commit, and sees so within seconds: `workers.heart`.
    """
    row = find(session, owner, analysis_id)
    transition(session, analysis_id, AnalysisStatus.CANCELED)
    session.refresh(row)
    if row.status != AnalysisStatus.CANCELED:
        raise Conflict(f"it has ended already: {row.status}")
    return row


def is_without_report(session: Session, analysis_id: UUID) -> bool:
    """Whether what is written for it now would be for nobody.

    It was deleted, ended canceled or failed, or its pictures have been erased. Under a legal hold nothing is.
    """
    shown = and_(Analysis.status.not_in(WITHOUT_REPORT), Analysis.media_erased_at.is_(None))
    wanted = or_(shown, Analysis.held_at.is_not(None))
    return session.scalar(select(Analysis.id).where(Analysis.id == analysis_id, wanted)) is None


def uncleared(session: Session) -> list[UUID]:
    """Canceled and failed analyses whose objects may still be there and that nobody works on any more."""
    return list(session.scalars(uncleared_query()))


def uncleared_query() -> Select[UUID]:
    """Ids of them. An id begins with its time, so the primary key bounds what is read to recent rows."""
    oldest = datetime.now(UTC) - settings().deadline - MARGIN
    return (
        select(Analysis.id)
        .join(Step, and_(Step.analysis_id == Analysis.id, Step.stage == Stage.EXTRACT.value))
        .where(
            Analysis.id > UUID(int=int(oldest.timestamp() * 1000) << 80),
            Analysis.status.in_(WITHOUT_REPORT),
            Analysis.completed_at < func.now() - SETTLED,
            Analysis.held_at.is_(None),
            ~Step.detail.has_key(CLEARED),
        )
    )


def mark_cleared(session: Session, analysis_id: UUID) -> None:
    """Its objects are gone: not to be looked for again."""
    session.execute(
        update(Step)
        .where(Step.analysis_id == analysis_id, Step.stage == Stage.EXTRACT.value)
        .values(detail=Step.detail.concat(cast({CLEARED: True}, JSONB)))
        .execution_options(synchronize_session=False)
    )


def overdue(session: Session, limit: int = 500) -> list[UUID]:
    """What passed its deadline, the longest ago first. Fail each in a transaction of its own."""
    return list(session.scalars(overdue_query().order_by(Analysis.deadline).limit(limit)))


def overdue_query() -> Select[UUID]:
    """Ids of living analyses past their deadline; `completed_at` lets the index answer."""
    return select(Analysis.id).where(Analysis.completed_at.is_(None), Analysis.deadline < func.now())


def stuck(session: Session) -> list[tuple[UUID, DeepDefendError]]:
    """What no report can follow, since extraction or fusion failed for good, and what to say of it."""
    return [
        (analysis_id, DeepDefendError(f"{stage} failed for good: {reason}", code=reason or "internal_error"))
        for analysis_id, stage, reason in session.execute(stuck_query()).all()
    ]


def stuck_query() -> Select[UUID, str, str | None]:
    """Failed steps that living analyses cannot do without."""
    return (
        select(Step.analysis_id, Step.stage, Step.reason)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(
            Analysis.completed_at.is_(None),
            Step.stage.in_([Stage.EXTRACT.value, Stage.FUSE.value]),
            Step.status == StepStatus.FAILED.value,
        )
    )
