"""What every task does around its work: claim, beat, checkpoint, and close whatever happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from botocore.exceptions import BotoCoreError
from sqlalchemy.exc import DBAPIError, OperationalError

from core import analyses, failpoints, logging, steps
from core.config import settings
from core.db import transaction
from core.domain import Stage, StepStatus
from core.errors import DeepDefendError, DetectorUnavailable, Fenced, MediaError, StorageError, Unreachable
from core.webhooks import events
from workers import leftovers
from workers.heart import Hold
from workers.process import this_process

log = logging.get(__name__)
#: What an outage outside raises: the step is tried again instead of being judged.
OUTAGES = (StorageError, Unreachable, OperationalError, BotoCoreError, ConnectionError)
#: Of what a stranger's exception says, for people: its text may be a whole file.
MESSAGE_LENGTH = 300

Work = Callable[[Hold], None]


def run_step(stage: Stage, analysis_id: str, shard: int, act: Work) -> None:
    """Claim the step and do its work; return quietly when it is not ours to do.

    `act` closes the step itself, together with its results. Nothing is raised for an expected
    failure: a raising chord header would skip the body.
    """
    with structlog.contextvars.bound_contextvars(
        analysis_id=analysis_id, stage=stage.value, shard=shard, boot_id=this_process().boot_id
    ):
        claim = _claim(stage, UUID(analysis_id), shard)
        if claim is None:
            log.debug("nothing to do", action="step_not_claimed")
            return
        failpoints.reach(failpoints.Point.WORKER_CLAIMED)
        with (
            structlog.contextvars.bound_contextvars(attempt=claim.attempt),
            this_process().heart.hold(claim) as hold,
        ):
            _guarded(hold, act)
        if hold.lost.is_set():
            leftovers.remove_if_unwanted(claim.analysis_id)


def _claim(stage: Stage, analysis_id: UUID, shard: int) -> steps.Claim | None:
    if this_process().heart.leaving:
        return None  # still owed: published again, to a process that stays
    with transaction() as session:
        claim = steps.claim(
            session,
            analysis_id=analysis_id,
            stage=stage,
            shard=shard,
            owner=this_process().boot_id,
            config=settings().steps,
        )
        if claim is not None:
            analyses.begin(session, analysis_id)
    return claim


def _guarded(hold: Hold, act: Work) -> None:
    started = time.perf_counter()
    try:
        act(hold)
    except Fenced:
        hold.lose()
        log.warning("lease lost, results discarded", action="step_fenced")
    except (MediaError, DetectorUnavailable) as error:
        _close(hold, error)
    except Exception as error:  # a bug in a detector or a decoder must end the step, not the analysis
        if _is_outage(error):
            log.warning("an outage, trying again later", action="step_retried", exc_info=True)
            reason = error.code if isinstance(error, DeepDefendError) else "database_unavailable"
            _retry(hold, reason, ours=_is_ours(error))
        else:
            log.exception("the step failed", action="step_crashed")
            _close(hold, DeepDefendError(_message(error)))
    else:
        log.info("step closed", action="step_closed", seconds=round(time.perf_counter() - started, 3))


def _is_outage(error: Exception) -> bool:
    """Also a broken connection or a demoted primary, under whatever name the driver raises it."""
    return isinstance(error, OUTAGES) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _is_ours(error: Exception) -> bool:
    """Our own storage or database is away: a whole queue may meet that within a second."""
    return isinstance(error, StorageError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _message(error: Exception) -> str:
    """What happened, in a form that Postgres and people can take."""
    said = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
    return "".join(character if character.isprintable() else " " for character in said)


def _close(hold: Hold, error: DeepDefendError) -> None:
    """Close the step as failed, or skipped where there is no one to do it."""
    skipped = isinstance(error, DetectorUnavailable)
    detail: dict[str, Any] = {"message": error.detail, **error.extra}
    claim = hold.claim
    try:
        with transaction() as session:
            analyses.touch(session, claim.analysis_id)
            if claim.stage in {Stage.EXTRACT, Stage.FUSE}:
                # Without extraction there is nothing to judge, without fusion there is no report.
                steps.finish(session, claim, status=StepStatus.FAILED, reason=error.code, detail=detail)
                analyses.fail(session, claim.analysis_id, error)
            else:
                status = StepStatus.SKIPPED if skipped else StepStatus.FAILED
                steps.finish(session, claim, status=status, reason=error.code, detail=detail)
                events.owe_progress(session, claim.analysis_id, claim.stage)
    except Fenced:
        hold.lose()
        log.warning("lease lost before the failure was written", action="step_fenced")
    except DBAPIError:
        log.warning("could not close the step", action="step_left_to_lease", exc_info=True)
    log.warning(error.detail, action="step_failed", code=error.code)


def _retry(hold: Hold, reason: str, *, ours: bool) -> None:
    try:
        with transaction() as session:
            analyses.touch(session, hold.claim.analysis_id)
            again = steps.wait_out if ours else steps.retry_later
            again(session, hold.claim, reason, settings().steps)
    except Fenced:
        hold.lose()
        log.warning("lease lost before the retry was written", action="step_fenced")
    except DBAPIError:
        # The database is away too: the dispatcher finds the step by its lease.
        log.warning("could not hand the step back", action="step_left_to_lease")
