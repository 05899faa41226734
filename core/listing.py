"""What people ask of their analyses: pages by signed cursor, progress by stage, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session

from core import steps
from core.cursors import Page, decode, encode
from core.domain import STEP_TERMINAL, AnalysisStatus, Frozen, Span, Stage, StepStatus, Verdict
from core.models import Analysis, Interval, Media


class Filters(Frozen):
    """Which analyses to list."""

    status: AnalysisStatus | None = None
    verdict: Verdict | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    sha256: str | None = None


class StageProgress(Frozen):
    """How far one stage is."""

    stage: Stage
    status: StepStatus
    done: int  #: steps closed, in whatever way
    total: int
    reasons: tuple[str, ...] = ()  #: why steps were skipped or failed


def page(
    session: Session, owner: str, *, filters: Filters, cursor: str | None = None, limit: int = 50
) -> Page[Analysis]:
    """The owner's analyses, the newest first. Raises InvalidCursor."""
    scope = f"analyses|{owner}|{filters.model_dump_json()}"
    query = _filtered(select(Analysis).where(Analysis.owner == owner), filters)
    if cursor is not None:
        created_at, identity = decode(cursor, scope)
        query = query.where(
            tuple_(Analysis.created_at, Analysis.id) < (datetime.fromisoformat(created_at), UUID(identity))
        )
    rows = session.scalars(
        query.order_by(Analysis.created_at.desc(), Analysis.id.desc()).limit(limit + 1)
    ).all()
    more = len(rows) > limit
    following = (
        encode([rows[limit - 1].created_at.isoformat(), str(rows[limit - 1].id)], scope) if more else None
    )
    return Page(rows[:limit], following)


def _filtered(query: Select[Analysis], filters: Filters) -> Select[Analysis]:
    if filters.status is not None:
        query = query.where(Analysis.status == filters.status.value)
    if filters.verdict is not None:
        query = query.where(Analysis.verdict == filters.verdict.value)
    if filters.created_after is not None:
        query = query.where(Analysis.created_at >= filters.created_after)
    if filters.created_before is not None:
        query = query.where(Analysis.created_at < filters.created_before)
    if filters.sha256 is not None:
        query = query.where(Analysis.media_id.in_(select(Media.id).where(Media.sha256 == filters.sha256)))
    return query


def interval_page(
    session: Session, analysis: Analysis, *, cursor: str | None = None, limit: int = 100
) -> Page[Interval]:
    """The intervals of an analysis in the order of time. Raises InvalidCursor."""
    scope = f"intervals|{analysis.id}"
    after = int(decode(cursor, scope)[0]) if cursor is not None else -1
    rows = session.scalars(
        select(Interval)
        .where(Interval.analysis_id == analysis.id, Interval.index > after)
        .order_by(Interval.index)
        .limit(limit + 1)
    ).all()
    following = encode([str(rows[limit - 1].index)], scope) if len(rows) > limit else None
    return Page(rows[:limit], following)


def spans(session: Session, analysis_id: UUID, first: int, last: int) -> list[Span]:
    """The timeline from interval `first` to `last`, both included."""
    rows = session.execute(
        select(Interval.index, Interval.start, Interval.end)
        .where(Interval.analysis_id == analysis_id, Interval.index.between(first, last))
        .order_by(Interval.index)
    )
    return [Span(index=index, start=start, end=end) for index, start, end in rows.all()]


def stages(session: Session, analysis_id: UUID) -> list[StageProgress]:
    """Progress by stage, in the order of the pipeline; stages that are not owed yet are absent."""
    rows = steps.of_analysis(session, analysis_id)
    present = dict.fromkeys(Stage(step.stage) for step in rows)
    return [_progress(stage, [step for step in rows if step.stage == stage.value]) for stage in present]


def _progress(stage: Stage, rows: Sequence[Any]) -> StageProgress:
    statuses = [StepStatus(step.status) for step in rows]
    closed = sum(status in STEP_TERMINAL for status in statuses)
    return StageProgress(
        stage=stage,
        status=_stage_status(statuses, closed),
        done=closed,
        total=len(rows),
        reasons=tuple(sorted({step.reason for step in rows if step.reason})),
    )


def _stage_status(statuses: Sequence[StepStatus], closed: int) -> StepStatus:
    """One word for many steps: running until all are closed, then the gravest."""
    if closed < len(statuses):
        waiting = closed == 0 and StepStatus.RUNNING not in statuses
        return StepStatus.PENDING if waiting else StepStatus.RUNNING
    gravest = (StepStatus.FAILED, StepStatus.DONE, StepStatus.SKIPPED)
    return next(status for status in gravest if status in statuses)


def stats(session: Session, owner: str) -> dict[str, Any]:
    """Counts and distributions over the owner's analyses, all from rows."""
    mine = Analysis.owner == owner
    by_status = _counts(session, Analysis.status, mine)
    verdicts = _counts(session, Analysis.verdict, mine & Analysis.verdict.is_not(None))
    return {
        "analyses": {"total": sum(by_status.values())}
        | {s.value: by_status.get(s.value, 0) for s in AnalysisStatus},
        "verdicts": {verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict},
        "confidence": _confidence(session, owner),
        "modalities": _modalities(session, owner),
        "media": _media(session, owner),
    }


def _counts(session: Session, column: Any, condition: ColumnElement[bool]) -> dict[Any, int]:
    """How many analyses there are of each value of a column."""
    rows = session.execute(select(column, func.count()).where(condition).group_by(column)).all()
    return {value: count for value, count in rows}  # noqa: C416 - dict() of a Result reads it as a mapping


def _confidence(session: Session, owner: str) -> dict[str, Any]:
    known = (Analysis.owner == owner) & Analysis.confidence.is_not(None)
    bins = _counts(session, func.least(func.floor(Analysis.confidence / 10), 9), known)
    return {
        "mean": session.scalar(select(func.avg(Analysis.confidence)).where(known)),
        "histogram": [{"from": 10 * n, "to": 10 * (n + 1), "count": bins.get(n, 0)} for n in range(10)],
    }


def _modalities(session: Session, owner: str) -> dict[str, Any]:
    """Mean interval scores per modality, and how many intervals had one: audio against video."""
    row = session.execute(
        select(
            func.count(Interval.index),
            func.count(Interval.video_score),
            func.avg(Interval.video_score),
            func.count(Interval.audio_score),
            func.avg(Interval.audio_score),
        )
        .join(Analysis, Analysis.id == Interval.analysis_id)
        .where(Analysis.owner == owner)
    ).one()
    total, video_count, video_mean, audio_count, audio_mean = row
    return {
        "intervals": total,
        "video": {"scored_intervals": video_count, "mean_score": video_mean},
        "audio": {"scored_intervals": audio_count, "mean_score": audio_mean},
    }


def _media(session: Session, owner: str) -> dict[str, Any]:
    count, size = session.execute(
        select(func.count(Media.id), func.coalesce(func.sum(Media.size_bytes), 0)).where(
            Media.owner == owner, Media.erased_at.is_(None)
        )
    ).one()
    return {"files": count, "bytes": int(size)}
