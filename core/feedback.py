"""What a person says an analysed file is. It moves no verdict; it is what verdicts are measured against."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import analyses, audit
from core.domain import AnalysisStatus, Frozen, Label
from core.errors import Conflict, NotFound
from core.keys import Caller
from core.models import Analysis, Feedback, Media


class LabelledFile(Frozen):
    """A file that somebody labelled and that is still stored."""

    analysis_id: UUID
    owner: str
    label: Label
    sha256: str
    object_key: str


def give(
    session: Session,
    caller: Caller,
    analysis_id: UUID,
    *,
    label: Label,
    note: str | None = None,
    request_id: str | None = None,
) -> Feedback:
    """Keep the label of the caller's analysis; a later one takes the place of an earlier one.

    The same again changes nothing. Raises NotFound, and Conflict (`not_completed`) when there is no verdict
    that it could be held against.
    """
    row = analyses.find_locked(session, caller.owner, analysis_id)  # an erasure counts what goes with it
    if row.status != AnalysisStatus.COMPLETED.value:
        raise Conflict(f"there is nothing to hold it against: it is {row.status}", code="not_completed")
    before = session.get(Feedback, analysis_id, populate_existing=True)
    if before is not None and (before.label, before.note) == (label.value, note):
        return before
    # The note stays out of the audit log, which outlives what it is about.
    audit.record(
        session,
        actor=caller.key_id,
        owner=row.owner,
        action=audit.Action.FEEDBACK_GIVEN,
        subject=analysis_id,
        detail={"label": label.value, "before": before.label if before is not None else None},
        request_id=request_id,
    )
    return _write(session, analysis_id, label=label.value, note=note, actor=caller.key_id)


def _write(session: Session, analysis_id: UUID, **values: str | None) -> Feedback:
    kept = (
        insert(Feedback)
        .values(analysis_id=analysis_id, **values)
        .on_conflict_do_update(
            index_elements=[Feedback.analysis_id], set_={**values, "at": func.clock_timestamp()}
        )
        .returning(Feedback)
    )
    return session.scalars(kept, execution_options={"populate_existing": True}).one()


def find(session: Session, owner: str, analysis_id: UUID) -> Feedback:
    """The label of the owner's analysis. Raises NotFound, also where nobody has said anything."""
    analyses.find(session, owner, analysis_id)
    row = session.get(Feedback, analysis_id)
    if row is None:
        raise NotFound("nobody has said what this file is")
    return row


def labelled_files(session: Session, owner: str | None = None) -> Iterator[LabelledFile]:
    """Every labelled file that has not been erased, of one owner or of all, in the order of the labels.

    A file that retention took from the labelled analysis counts as erased, whichever still needs it.
    The same bytes may be labelled more than once, by one owner or by several.
    """
    query = (
        select(Feedback.analysis_id, Analysis.owner, Feedback.label, Media.sha256, Media.object_key)
        .join(Analysis, Analysis.id == Feedback.analysis_id)
        .join(Media, Media.id == Analysis.media_id)
        .where(
            Media.erased_at.is_(None),
            Analysis.media_erased_at.is_(None),
            *([Analysis.owner == owner] if owner is not None else []),
        )
        .order_by(Feedback.at, Feedback.analysis_id)
    )
    for identity, whose, label, sha256, key in session.execute(query):
        yield LabelledFile(
            analysis_id=identity, owner=whose, label=Label(label), sha256=sha256, object_key=key
        )
