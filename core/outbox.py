"""Which steps are owed a message, in which order. The rows are the outbox; the dispatcher empties it.

Urgent lanes come first, whatever else is owed: a batch of thousands holds nobody back here either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from core.config import StepSettings
from core.domain import ACTIVE, BRANCHES, Lane, Stage, StepStatus
from core.models import Analysis, Step
from core.queue import LANE_OF_STAGE, QUEUE_OF_TASK, TASK_OF_STAGE, stages_of
from core.steps import open_branches, readable

_IS_FUSION = Step.stage == Stage.FUSE.value
_URGENCY = {lane.value: rank for rank, lane in enumerate(Lane)}


def step_lane() -> ColumnElement[str]:
    """SQL: the lane that a step waits in, where its analysis is joined."""
    own = {stage.value: lane.value for stage, lane in LANE_OF_STAGE.items()}
    return case(own, value=Step.stage, else_=Analysis.lane)


def owed(session: Session, config: StepSettings, limit: int = 500) -> list[Step]:
    """Pending steps of living analyses to publish now, locked for this transaction.

    The most urgent lane first, the oldest of a lane first.
    """
    return list(session.scalars(owed_query(config).limit(limit)))


def owed_query(config: StepSettings) -> Select[Step]:
    """What is owed, locked.

    A step is owed when it was never published, or was published long ago and nobody claimed it.
    Fusion is owed when its branches are closed and the chord did not ring for it in time.
    """
    return (
        select(Step)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(*_due(config))
        .order_by(case(_URGENCY, value=step_lane()), Step.created_at, Step.id)
        .with_for_update(of=Step, skip_locked=True)
    )


def _due(config: StepSettings) -> tuple[ColumnElement[bool], ...]:
    never = Step.published_at.is_(None)
    stale = Step.published_at < func.now() - config.republish_after
    return (
        *_waiting(),
        Analysis.status.in_([status.value for status in ACTIVE]),
        or_(
            and_(~_IS_FUSION, or_(never, stale)),
            and_(_IS_FUSION, ~open_branches(), or_(never, _chord_silent(config))),
        ),
    )


def _waiting() -> tuple[ColumnElement[bool], ...]:
    """Nobody has claimed it, and this version can read it."""
    return Step.status == StepStatus.PENDING.value, Step.closed_at.is_(None), readable()


def _chord_silent(config: StepSettings) -> ColumnElement[bool]:
    """SQL: the last branch closed a while ago and fusion was not rung since."""
    other = aliased(Step)
    last_closed = (
        select(func.max(other.closed_at))
        .where(other.analysis_id == Step.analysis_id)
        .correlate(Step)
        .scalar_subquery()
    )
    return func.greatest(last_closed, Step.published_at) < func.now() - config.chord_grace


def stale(session: Session, config: StepSettings) -> list[tuple[str, Lane]]:
    """Stages and lanes in which something was published long ago and nobody claimed it."""
    return [(stage, Lane(lane)) for stage, lane in session.execute(stale_query(config))]


def stale_query(config: StepSettings) -> Select[str, str]:
    """Their stages and lanes, each pair once."""
    return (
        select(Step.stage, step_lane())
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(*_due(config), Step.published_at.is_not(None))
        .distinct()
    )


def unclaimed(session: Session, stage: str, lane: Lane) -> int:
    """Steps whose messages should still be in the queue of that stage and lane."""
    beside = stages_of(QUEUE_OF_TASK[TASK_OF_STAGE[Stage(stage)]])
    query = (
        select(func.count())
        .select_from(Step)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(
            *_waiting(),
            Step.stage.in_([one.value for one in beside]),
            step_lane() == lane.value,
            Step.published_at.is_not(None),
        )
    )
    if stage == Stage.FUSE.value:
        # The body of a chord counts as published from the start, and is rung for by the last branch.
        query = query.where(~open_branches())
    return session.scalar(query) or 0


def postpone(session: Session, config: StepSettings, stage: str, lane: Lane) -> None:
    """Look at the stale steps of that stage and lane again later: their messages still wait."""
    ids = (
        select(Step.id)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(*_due(config), Step.stage == stage, step_lane() == lane.value, Step.published_at.is_not(None))
        .with_for_update(of=Step, skip_locked=True)
    )
    session.execute(
        update(Step)
        .where(Step.id.in_(ids))
        .values(published_at=func.now())
        .execution_options(synchronize_session=False)
    )


def lanes(session: Session, analysis_ids: Collection[UUID]) -> dict[UUID, Lane]:
    """The lane of each analysis."""
    rows = session.execute(select(Analysis.id, Analysis.lane).where(Analysis.id.in_(analysis_ids)))
    return {analysis_id: Lane(lane) for analysis_id, lane in rows}


def waiting_fusion(session: Session, analysis_id: UUID) -> Step | None:
    """The fuse step when it has never been published, locked: the body of a chord to be."""
    return session.scalar(_unpublished(analysis_id, [Stage.FUSE]))


def waiting_branches(session: Session, analysis_id: UUID) -> list[Step]:
    """The branches that have never been published, locked: the header of a chord to be."""
    return list(session.scalars(_unpublished(analysis_id, BRANCHES)))


def _unpublished(analysis_id: UUID, stages: Iterable[Stage]) -> Select[Step]:
    return (
        select(Step)
        .where(
            Step.analysis_id == analysis_id,
            Step.stage.in_([stage.value for stage in stages]),
            *_waiting(),
            Step.published_at.is_(None),
        )
        .order_by(Step.stage, Step.shard)
        .with_for_update(skip_locked=True)
    )


def mark_published(session: Session, step_ids: Sequence[UUID]) -> None:
    """Record that messages for these steps are with the broker, unless somebody has been quicker.

    What was claimed meanwhile, put off, or is being closed at this moment is left as it is; a step that is
    passed over is published twice at worst.
    """
    free = (
        select(Step.id)
        .where(
            Step.id.in_(step_ids),
            *_waiting(),
            or_(Step.published_at.is_(None), Step.published_at <= func.now()),
        )
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Step)
        .where(Step.id.in_(free))
        .values(published_at=func.now())
        .execution_options(synchronize_session=False)
    )
