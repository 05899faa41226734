"""Queue `webhooks`: one try to tell one address of one event."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from core import failpoints, logging
from core.config import WebhookSettings, settings
from core.db import transaction
from core.errors import DeepDefendError, Fenced, Unreachable, UnsafeUrl
from core.queue import Task
from core.webhooks import deliveries, schedule, secrets
from core.webhooks.deliveries import Claim
from core.webhooks.domain import DeliveryStatus, Outcome
from workers import outbound
from workers.app import app
from workers.process import this_process

log = logging.get(__name__)
#: Of the receiver's answer, for the log.
KEEP_BYTES = 2048
#: How long one message may go on with the backlog of its endpoint: then others' turn has come.
RUN_SECONDS = 5.0


@app.task(name=Task.DELIVER.value, ignore_result=True)  # type: ignore[untyped-decorator]  # Celery ships no types
def deliver_event(delivery_id: str) -> None:
    """Try one delivery; return quietly when it is not ours to try."""
    with structlog.contextvars.bound_contextvars(boot_id=this_process().boot_id):
        if not this_process().heart.leaving:  # else it is published again, to a process that stays
            deliver(UUID(delivery_id))


def deliver(delivery_id: UUID) -> None:
    """Claim, send, write down; then what else is due at the endpoint, as long as it takes what it gets.

    Killed in between, the lease runs out and it is sent again.
    """
    until = time.monotonic() + RUN_SECONDS
    with transaction() as session:
        claim = deliveries.claim(session, delivery_id, owner=this_process().boot_id)
    if claim is None:
        log.debug("nothing to do", action="delivery_not_claimed", delivery_id=str(delivery_id))
    while claim is not None:
        with structlog.contextvars.bound_contextvars(delivery_id=str(claim.delivery_id)):
            claim = _try(claim, until)


def _try(claim: Claim, until: float) -> Claim | None:
    """One try; the next claim, if there is to be one."""
    failpoints.reach(failpoints.Point.WEBHOOK_CLAIMED)
    outcome = send(claim, settings().webhooks)
    failpoints.reach(failpoints.Point.WEBHOOK_SENT)
    go_on = outcome.is_delivered and time.monotonic() < until and not this_process().heart.leaving
    following = None
    try:
        with transaction() as session:
            status = deliveries.close(session, claim, outcome)
            if go_on:
                following = deliveries.claim_next(session, claim)
            else:
                deliveries.leave_place(session)
    except Fenced:
        log.warning("deleted meanwhile, or given to another", action="delivery_fenced")
        return None
    except DBAPIError:
        log.warning("not written down: it will be sent again", action="delivery_left_to_lease", exc_info=True)
        return None
    _log(claim, outcome, status)
    return following


def _log(claim: Claim, outcome: Outcome, status: DeliveryStatus) -> None:
    log.info(
        "event told" if outcome.is_delivered else "event not told",
        action="delivery_tried",
        event_id=claim.event_id,
        attempt=claim.attempt,
        http_status=outcome.status,
        code=outcome.error,
        milliseconds=outcome.milliseconds,
        delivery_status=status.value,
    )


def send(claim: Claim, policy: WebhookSettings) -> Outcome:
    """One signed POST. What goes wrong is an outcome too; the same event has the same id each time."""
    at, started = datetime.now(UTC), time.perf_counter()
    try:
        reply = outbound.post(
            claim.url,
            body=claim.body.encode(),
            headers=_headers(claim, at),
            policy=policy,
            timeout=policy.timeout,
            keep=KEEP_BYTES,
        )
    except (UnsafeUrl, Unreachable, secrets.SecretUnreadable) as error:
        _log_unreadable(error)
        spent = round((time.perf_counter() - started) * 1000)
        return Outcome(at=at, milliseconds=spent, error=error.code)
    return Outcome(
        at=at,
        milliseconds=reply.milliseconds,
        status=reply.status,
        answer=reply.body.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        retry_after=schedule.parse_retry_after(reply.headers.get("retry-after"), at),
    )


def _headers(claim: Claim, at: datetime) -> dict[str, str]:
    """Standard Webhooks. Raises SecretUnreadable."""
    timestamp = int(at.timestamp())
    keys = [secrets.unseal(sealed) for sealed in claim.sealed]
    signed = secrets.signatures(keys, event_id=claim.event_id, timestamp=timestamp, body=claim.body)
    return {
        "Content-Type": "application/json",
        "webhook-id": claim.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signed,
    }


def _log_unreadable(error: DeepDefendError) -> None:
    """Everything else is the receiver's affair; this one is the operator's."""
    if isinstance(error, secrets.SecretUnreadable):
        log.error(error.detail, action="secret_unreadable")
