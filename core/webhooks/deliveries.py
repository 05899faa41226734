"""A delivery from owed to closed: claimed under a lease, tried, and written down by whoever holds it.

The lease outlasts a try. A process that is killed between the sending and the row leaves the lease to
run out: the event is sent again under the same id, which receivers must expect anyway.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from core import steps
from core.config import settings
from core.domain import Frozen
from core.errors import Fenced
from core.models import Analysis, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.webhooks import endpoints, schedule
from core.webhooks.domain import TEST_EVENT, DeliveryStatus, Disabled, EventType, Outcome

#: Beyond the time limit of a try: for the address to be looked up and the row to be written.
LEASE_MARGIN: Final = timedelta(seconds=20)
#: Of a test event, which a person waits for; of all others the schedule says.
TEST_TRIES: Final = 1


class Claim(Frozen):
    """The right to try one delivery once, until the lease runs out."""

    delivery_id: UUID
    endpoint_id: UUID
    analysis_id: UUID | None
    attempt: int
    tries: int  #: of this round, this one included
    owner: str  #: of the lease: a process
    event_id: str
    event_type: str
    url: str
    body: str
    sealed: tuple[bytes, ...]  #: the secrets that sign


def claim(session: Session, delivery_id: UUID, *, owner: str) -> Claim | None:
    """Lease a delivery that is due; None when there is nothing to do: done, deleted, or another's."""
    query = (
        select(WebhookEndpoint, func.now())
        .join(WebhookDelivery, WebhookDelivery.endpoint_id == WebhookEndpoint.id)
        .where(WebhookDelivery.id == delivery_id)
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    endpoint, now = found
    if endpoint.disabled_at is not None:
        _write(session, _is_due(delivery_id), **_closed(DeliveryStatus.DROPPED))
        return None
    row = session.execute(
        update(WebhookDelivery)
        .where(_is_due(delivery_id))
        .values(
            status=DeliveryStatus.SENDING.value,
            attempt=WebhookDelivery.attempt + 1,
            tries=WebhookDelivery.tries + 1,
            lease_owner=owner,
            lease_expires=func.now() + settings().webhooks.timeout + LEASE_MARGIN,
            published_at=func.coalesce(WebhookDelivery.published_at, func.now()),
        )
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).scalar_one_or_none()
    return None if row is None else _claimed(row, endpoint, owner, now)


def _claimed(row: WebhookDelivery, endpoint: WebhookEndpoint, owner: str, now: datetime) -> Claim:
    former = endpoint.former_secret_until is not None and endpoint.former_secret_until > now
    sealed = (endpoint.secret, endpoint.former_secret if former else None)
    return Claim(
        delivery_id=row.id,
        endpoint_id=row.endpoint_id,
        analysis_id=row.analysis_id,
        attempt=row.attempt,
        tries=row.tries,
        owner=owner,
        event_id=row.event_id,
        event_type=row.event_type,
        url=row.url,
        body=row.body,
        sealed=tuple(secret for secret in sealed if secret is not None),
    )


def close(session: Session, claim: Claim, outcome: Outcome) -> DeliveryStatus:
    """Write down one try and what follows from it, in one transaction.

    Raises Fenced when the lease was lost or the delivery is gone: nothing is written then.
    """
    if outcome.is_delivered:
        _clear_record(session, claim.endpoint_id)
        status, values = DeliveryStatus.DELIVERED, _closed(DeliveryStatus.DELIVERED)
    else:
        endpoint = _lock(session, claim.endpoint_id)
        status, values = _after_failure(session, claim, endpoint, outcome)
        _record_failure(session, endpoint, outcome)
    if not _write(session, _held(claim), **values):
        raise Fenced
    session.add(_attempt(claim.delivery_id, claim.attempt, outcome))
    session.flush()
    return status


def claim_next(session: Session, done: Claim) -> Claim | None:
    """Lease the next that is due at the endpoint, in the transaction that closed one: the place is kept.

    So a backlog needs no round of the dispatcher for each event. None when there is none: then the
    place is free, and the dispatcher is told.
    """
    following = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.endpoint_id == done.endpoint_id,
            WebhookDelivery.closed_at.is_(None),
            WebhookDelivery.published_at.is_(None),
            WebhookDelivery.next_attempt_at <= func.now(),
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    identity = session.scalar(following)
    found = None if identity is None else claim(session, identity, owner=done.owner)
    if found is None:
        leave_place(session)
    return found


def leave_place(session: Session) -> None:
    """A try is over and no other follows: the dispatcher may publish one more."""
    steps.ring(session)


def _after_failure(
    session: Session, claim: Claim, endpoint: WebhookEndpoint, outcome: Outcome
) -> tuple[DeliveryStatus, dict[str, Any]]:
    if endpoint.disabled_at is not None or _is_old_news(session, claim):
        return DeliveryStatus.DROPPED, _closed(DeliveryStatus.DROPPED)
    last = claim.event_type == TEST_EVENT and claim.tries >= TEST_TRIES
    wait = None if last or outcome.is_gone else schedule.delay(claim.tries, outcome.retry_after)
    if wait is None:
        return DeliveryStatus.FAILED, _closed(DeliveryStatus.FAILED)
    return DeliveryStatus.OWED, _owed_again(func.clock_timestamp() + wait)


def _is_old_news(session: Session, claim: Claim) -> bool:
    """Progress that is overtaken: by the end, or by later progress."""
    if claim.event_type != EventType.PROGRESS:
        return False
    ended = exists().where(Analysis.id == claim.analysis_id, Analysis.completed_at.is_not(None))
    later = exists().where(
        WebhookDelivery.analysis_id == claim.analysis_id,
        WebhookDelivery.endpoint_id == claim.endpoint_id,
        WebhookDelivery.event_type == claim.event_type,
        WebhookDelivery.id > claim.delivery_id,
    )
    return bool(session.scalar(select(ended | later)))


def _lock(session: Session, endpoint_id: UUID) -> WebhookEndpoint:
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).with_for_update(key_share=True)
    row = session.scalar(query)
    if row is None:
        raise Fenced
    return row


def _clear_record(session: Session, endpoint_id: UUID) -> None:
    """One success ends a time of failures; endpoints that have none are not locked."""
    failing = (WebhookEndpoint.id == endpoint_id, WebhookEndpoint.failing_since.is_not(None))
    session.execute(update(WebhookEndpoint).where(*failing).values(failing_since=None))


def _record_failure(session: Session, endpoint: WebhookEndpoint, outcome: Outcome) -> None:
    """Count against the endpoint; one without a URL stands for many receivers, and is never disabled."""
    if endpoint.url is None or endpoint.disabled_at is not None:
        return
    now = session.scalars(select(func.now())).one()
    endpoint.failing_since = endpoint.failing_since or now
    if outcome.is_gone:
        endpoints.disable(session, endpoint, Disabled.GONE)
    elif now - endpoint.failing_since >= settings().webhooks.disable_after:
        endpoints.disable(session, endpoint, Disabled.FAILING)
    session.flush()


def _attempt(delivery_id: UUID, number: int, outcome: Outcome) -> WebhookAttempt:
    return WebhookAttempt(
        delivery_id=delivery_id, number=number, **outcome.model_dump(exclude={"retry_after"})
    )


def requeue_lost(session: Session) -> list[UUID]:
    """Owe again what a dead process was sending; the ids. The receiver may have it already."""
    lost = session.scalars(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.closed_at.is_(None),
            WebhookDelivery.published_at.is_not(None),
            WebhookDelivery.status == DeliveryStatus.SENDING.value,
            WebhookDelivery.lease_expires < func.now(),
        )
        .with_for_update(skip_locked=True)
    ).all()
    now = session.scalars(select(func.now())).one()
    for row in lost:
        last = schedule.delay(row.tries) is None
        values = _closed(DeliveryStatus.FAILED) if last else _owed_again(now)
        _write(session, WebhookDelivery.id == row.id, **values)
        session.add(_attempt(row.id, row.attempt, Outcome(at=now, milliseconds=0, error="worker_lost")))
    return [row.id for row in lost]


def prune(session: Session, limit: int = 500) -> int:
    """Forget a part of the log that is older than is kept; how many there were.

    An id begins with its time, so that the primary key finds the old ones.
    """
    oldest = session.scalars(select(func.now())).one() - settings().webhooks.keep_log
    old = select(WebhookDelivery.id).where(
        WebhookDelivery.id < UUID(int=int(oldest.timestamp() * 1000) << 80),
        WebhookDelivery.closed_at < oldest,
    )
    chosen = session.scalars(old.limit(limit).with_for_update(skip_locked=True)).all()
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(chosen)))
    return len(chosen)


def _is_due(delivery_id: UUID) -> ColumnElement[bool]:
    return and_(
        WebhookDelivery.id == delivery_id,
        WebhookDelivery.status == DeliveryStatus.OWED.value,
        WebhookDelivery.next_attempt_at <= func.now(),
    )


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(
        WebhookDelivery.id == claim.delivery_id,
        WebhookDelivery.status == DeliveryStatus.SENDING.value,
        WebhookDelivery.attempt == claim.attempt,
        WebhookDelivery.lease_owner == claim.owner,
    )


def _closed(status: DeliveryStatus) -> dict[str, Any]:
    return {
        "status": status.value,
        "closed_at": func.clock_timestamp(),
        "lease_owner": None,
        "lease_expires": None,
    }


def _owed_again(at: Any) -> dict[str, Any]:
    return {
        "status": DeliveryStatus.OWED.value,
        "next_attempt_at": at,
        "lease_owner": None,
        "lease_expires": None,
        "published_at": None,
    }


def _write(session: Session, which: ColumnElement[bool], **values: Any) -> bool:
    statement = update(WebhookDelivery).where(which).values(**values)
    result = session.execute(statement.execution_options(synchronize_session=False))
    return isinstance(result, CursorResult) and result.rowcount == 1
