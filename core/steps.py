"""Steps: the lease and the fence. Postgres is the truth; Celery only rings the bell (core.outbox).

A process claims a pending step (compare-and-set), beats its lease, and closes it in the same
transaction that holds its results. Every write carries the attempt and the owner that claimed: a
process that lost its lease changes nothing.

Whoever changes an analysis and its steps takes the analysis row first: two transactions that take
them in different order wait for each other until Postgres kills one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, cast, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from core.config import StepSettings
from core.domain import ACTIVE, BEFORE_FUSION, STEP_TERMINAL, Frozen, Reason, Stage, StepStatus
from core.errors import Fenced
from core.models import Analysis, Step

#: What this code writes into `Step.payload` and can read. Raised when workers of the version before could
#: not read it: they leave such steps to others, and so does a dispatcher of theirs.
FORMAT: Final = 2
#: In the detail of a step: how often our own servers were away while it ran.
OUTAGES: Final = "outages"
#: Two minutes between two tries, from 15 s.
LONGEST_DOUBLING: Final = 3
#: The channel the dispatcher listens to; a NOTIFY is delivered with the commit that caused it.
CHANNEL = "deepdefend_steps"


class Claim(Frozen):
    """The right to work on one step, until the lease runs out."""

    step_id: UUID
    analysis_id: UUID
    stage: Stage
    shard: int
    attempt: int
    owner: str
    payload: dict[str, Any]


class NewStep(Frozen):
    """A unit of work to be owed."""

    stage: Stage
    shard: int = 0
    payload: dict[str, Any] = {}


def owe(session: Session, analysis_id: UUID, steps: Iterable[NewStep]) -> None:
    """Add steps and wake the dispatcher when the transaction commits."""
    session.add_all(
        Step(
            analysis_id=analysis_id,
            stage=step.stage.value,
            shard=step.shard,
            payload=step.payload,
            format=FORMAT,
            status=StepStatus.PENDING.value,
        )
        for step in steps
    )
    session.flush()
    ring(session)


def ring(session: Session) -> None:
    """Wake the dispatcher when the transaction commits."""
    session.execute(text(f"NOTIFY {CHANNEL}"))


def claim(
    session: Session, *, analysis_id: UUID, stage: Stage, shard: int, owner: str, config: StepSettings
) -> Claim | None:
    """Lease a pending step, or return None when there is nothing to do here.

    None covers every reason alike: done, running elsewhere, written by a newer version, its analysis
    ended, or (for fusion) a branch still open. The caller just returns.
    """
    if not lock_active(session, analysis_id):
        return None
    ready = [~open_branches()] if stage is Stage.FUSE else []
    row = session.execute(
        update(Step)
        .where(
            Step.analysis_id == analysis_id,
            Step.stage == stage.value,
            Step.shard == shard,
            Step.status == StepStatus.PENDING.value,
            readable(),
            Step.attempt < config.max_attempts,
            *ready,
        )
        .values(
            status=StepStatus.RUNNING.value,
            attempt=Step.attempt + 1,
            lease_owner=owner,
            lease_expires=func.now() + config.lease,
            started_at=func.now(),
        )
        .returning(Step.id, Step.attempt, Step.payload)
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        step_id=row.id,
        analysis_id=analysis_id,
        stage=stage,
        shard=shard,
        attempt=row.attempt,
        owner=owner,
        payload=row.payload,
    )


def beat(session: Session, claims: Sequence[Claim], config: StepSettings) -> set[UUID]:
    """Extend the leases; returns the step ids that are still held. The others are lost."""
    if not claims:
        return set()
    held = session.execute(
        update(Step)
        .where(or_(*(_held(claim) for claim in claims)))
        .values(lease_expires=func.now() + config.lease)
        .returning(Step.id)
    )
    return set(held.scalars())


def held(session: Session, claims: Sequence[Claim]) -> set[UUID]:
    """Which of these are still ours. Reads a few rows by their key and writes none."""
    if not claims:
        return set()
    return set(session.scalars(select(Step.id).where(or_(*(_held(claim) for claim in claims)))))


def finish(
    session: Session,
    claim: Claim,
    *,
    status: StepStatus = StepStatus.DONE,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Close the step. Raises Fenced when the lease was lost: roll back, the results are not ours."""
    if status not in STEP_TERMINAL:
        raise ValueError(f"{status} does not close a step")
    _write(
        session,
        claim,
        status=status.value,
        reason=reason,
        detail=detail or {},
        lease_owner=None,
        lease_expires=None,
        closed_at=func.clock_timestamp(),
    )
    ring(session)


def hand_back(session: Session, claim: Claim) -> None:
    """Give an unfinished step back, without using up an attempt (orderly shutdown)."""
    _write(
        session,
        claim,
        status=StepStatus.PENDING.value,
        attempt=Step.attempt - 1,
        lease_owner=None,
        lease_expires=None,
        published_at=None,
    )
    ring(session)


def retry_later(session: Session, claim: Claim, reason: str, config: StepSettings) -> bool:
    """Try again when somebody else's server did not answer; False when that was the last attempt.

    The next try comes after `republish_after`, the one after that eight times as late: with three
    attempts and 15 s, an outage of two minutes costs nothing but time.
    """
    if claim.attempt >= config.max_attempts:
        finish(session, claim, status=StepStatus.FAILED, reason=reason)
        return False
    later = config.republish_after * (8 ** (claim.attempt - 1) - 1)
    _write(
        session,
        claim,
        status=StepStatus.PENDING.value,
        reason=reason,
        lease_owner=None,
        lease_expires=None,
        published_at=func.now() + later,
    )
    return True


def wait_out(session: Session, claim: Claim, reason: str, config: StepSettings) -> None:
    """Try again when our own storage or database was away: no fault of the step, so it costs no attempt.

    After `republish_after`, then twice as late each time, up to eight times. The deadline ends it.
    """
    outages = session.scalar(select(Step.detail[OUTAGES].as_integer()).where(_held(claim))) or 0
    later = config.republish_after * (2 ** min(outages, LONGEST_DOUBLING) - 1)
    _write(
        session,
        claim,
        status=StepStatus.PENDING.value,
        attempt=Step.attempt - 1,
        reason=reason,
        detail=Step.detail.concat(cast({OUTAGES: outages + 1}, JSONB)),
        lease_owner=None,
        lease_expires=None,
        published_at=func.now() + later,
    )


def _write(session: Session, claim: Claim, **values: Any) -> None:
    result = session.execute(update(Step).where(_held(claim)).values(**values))
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Fenced


def requeue_expired(session: Session, config: StepSettings) -> list[UUID]:
    """Give the steps of dead processes to others; after the last attempt they fail: worker_lost.

    Returns the analyses they belong to.
    """
    dead = expired_query()
    again = session.execute(
        update(Step)
        .where(Step.id.in_(dead), Step.attempt < config.max_attempts)
        .values(status=StepStatus.PENDING.value, lease_owner=None, lease_expires=None, published_at=None)
        .returning(Step.analysis_id)
    )
    requeued = list(again.scalars())
    lost = session.execute(
        update(Step)
        .where(Step.id.in_(dead), Step.attempt >= config.max_attempts)
        .values(
            status=StepStatus.FAILED.value,
            reason=Reason.WORKER_LOST.value,
            lease_owner=None,
            lease_expires=None,
            closed_at=func.now(),
        )
        .returning(Step.analysis_id)
    )
    return requeued + list(lost.scalars())


def expired_query() -> Select[UUID]:
    """Ids of steps whose worker is dead, locked."""
    return (
        select(Step.id)
        .where(
            Step.status == StepStatus.RUNNING.value,
            Step.closed_at.is_(None),
            Step.lease_expires < func.now(),
            readable(),
        )
        .with_for_update(skip_locked=True)
    )


def abandon(session: Session, analysis_id: UUID, reason: str, *, stage: Stage | None = None) -> bool:
    """Close whatever is open of an analysis, or of one stage; running steps are thereby fenced.

    False when nothing was open. The caller holds the analysis row.
    """
    stages = [Step.stage == stage.value] if stage else []
    closed = session.execute(
        update(Step)
        .where(Step.analysis_id == analysis_id, Step.closed_at.is_(None), *stages)
        .values(
            status=StepStatus.SKIPPED.value,
            reason=reason,
            lease_owner=None,
            lease_expires=None,
            closed_at=func.now(),
        )
        .returning(Step.id)
    )
    return closed.first() is not None


def of_analysis(session: Session, analysis_id: UUID) -> Sequence[Step]:
    """Every step of an analysis, in the order of the pipeline."""
    order = {stage.value: n for n, stage in enumerate(Stage)}
    rows = session.scalars(select(Step).where(Step.analysis_id == analysis_id)).all()
    return sorted(rows, key=lambda step: (order[step.stage], step.shard))


def why_lost(step: Step) -> Reason:
    """Why a branch closed without results, in the words of reports.

    A skipped branch had no one to score it; a failed one says why when its reason is a known one.
    """
    if step.status == StepStatus.SKIPPED.value:
        return Reason.NO_DETECTOR_WEIGHTS
    known = {reason.value: reason for reason in Reason}
    return known.get(step.reason or "", Reason.DETECTOR_FAILED)


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(
        Step.id == claim.step_id,
        Step.status == StepStatus.RUNNING.value,
        Step.attempt == claim.attempt,
        Step.lease_owner == claim.owner,
    )


def lock_active(session: Session, analysis_id: UUID) -> bool:
    """Take the analysis row, which comes before its steps; False when there is none or it has ended."""
    active = [status.value for status in ACTIVE]
    query = select(Analysis.id).where(Analysis.id == analysis_id, Analysis.status.in_(active))
    return session.scalar(query.with_for_update(key_share=True)) is not None


def readable() -> ColumnElement[bool]:
    """SQL: the step is of this version or an older one."""
    return Step.format <= FORMAT


def open_branches() -> ColumnElement[bool]:
    """SQL: the step's analysis still has extraction, a branch or a variant that is not closed."""
    other = aliased(Step)
    return (
        select(other.id)
        .where(
            other.analysis_id == Step.analysis_id,
            other.stage.in_([stage.value for stage in BEFORE_FUSION]),
            other.closed_at.is_(None),
        )
        .correlate(Step)
        .exists()
    )
