"""What of the owed is to be published now: the oldest first, and a fair share for everybody.

A delivery is in flight from its publication until its try is over. An owner has a few in flight at once,
an endpoint fewer: receivers that answer slowly, or never, fill their owner's places and no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, true, tuple_, update
from sqlalchemy.orm import Session

from core.config import StepSettings
from core.models import WebhookDelivery, WebhookEndpoint
from core.webhooks.domain import OPEN, DeliveryStatus

#: Of the 16 threads of one worker: half of what an owner has is left when one receiver hangs.
PER_ENDPOINT: Final = 2
PER_OWNER: Final = 4


def due(session: Session, limit: int = 100) -> Sequence[WebhookDelivery]:
    """What to publish now. Nothing is locked: there is one dispatcher, and the broker may keep it waiting."""
    candidates = session.execute(due_query()).all()
    chosen = _fair(candidates, _in_flight(session))[:limit]
    query = select(WebhookDelivery).where(WebhookDelivery.id.in_(chosen), _waits())
    return session.scalars(query.order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id)).all()


def due_query() -> Select[UUID, str, UUID]:
    """The few oldest of each endpoint: id, owner, endpoint. A backlog costs no more than its endpoints."""
    nearest = (
        select(WebhookDelivery.id, WebhookDelivery.owner, WebhookDelivery.next_attempt_at)
        .where(
            WebhookDelivery.endpoint_id == WebhookEndpoint.id,
            _waits(),
            WebhookDelivery.next_attempt_at <= func.now(),
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(PER_ENDPOINT)
        .correlate(WebhookEndpoint)
        .lateral()
    )
    return (
        select(nearest.c.id, nearest.c.owner, WebhookEndpoint.id)
        .join(nearest, true())
        .order_by(nearest.c.next_attempt_at)
    )


def _fair(
    candidates: Sequence[Row[UUID, str, UUID]], in_flight: Counter[tuple[str, UUID | None]]
) -> list[UUID]:
    chosen = []
    for delivery_id, owner, endpoint_id in candidates:
        if in_flight[owner, None] < PER_OWNER and in_flight[owner, endpoint_id] < PER_ENDPOINT:
            in_flight.update([(owner, None), (owner, endpoint_id)])
            chosen.append(delivery_id)
    return chosen


def _in_flight(session: Session) -> Counter[tuple[str, UUID | None]]:
    """How many each endpoint has, and under None each owner."""
    counts: Counter[tuple[str, UUID | None]] = Counter()
    for owner, endpoint_id, count in session.execute(in_flight_query()):
        counts[owner, endpoint_id] += count
        counts[owner, None] += count
    return counts


def in_flight_query() -> Select[str, UUID, int]:
    """Owner, endpoint, how many."""
    return (
        select(WebhookDelivery.owner, WebhookDelivery.endpoint_id, func.count())
        .where(WebhookDelivery.closed_at.is_(None), WebhookDelivery.published_at.is_not(None))
        .group_by(WebhookDelivery.owner, WebhookDelivery.endpoint_id)
    )


def mark_published(session: Session, published: Sequence[WebhookDelivery]) -> None:
    """Record that messages for these are with the broker, unless a worker has been quicker."""
    tried = tuple_(WebhookDelivery.id, WebhookDelivery.attempt)
    _stamp(session, func.now(), tried.in_([(row.id, row.attempt) for row in published]), _waits())


def _stamp(session: Session, published_at: Any, *conditions: ColumnElement[bool]) -> None:
    """Only what nobody else is changing: whoever deletes or disables takes several rows in its own order.

    What is passed over is published twice at worst, or looked at again.
    """
    free = select(WebhookDelivery.id).where(*conditions).with_for_update(skip_locked=True)
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(free))
        .values(published_at=published_at)
        .execution_options(synchronize_session=False)
    )


def unclaimed(session: Session, config: StepSettings) -> tuple[int, int]:
    """How many published deliveries no worker has claimed, and how many of them for long."""
    query = select(func.count(), func.count().filter(_is_stale(config))).where(_is_unclaimed())
    count, stale = session.execute(query).one()
    return count, stale


def postpone(session: Session, config: StepSettings) -> None:
    """Their messages still wait: those that nobody claimed for long are looked at again later."""
    _stamp(session, func.now(), _is_unclaimed(), _is_stale(config))


def take_back(session: Session, config: StepSettings) -> None:
    """Messages are lost: those that nobody claimed for long are owed as if never published."""
    _stamp(session, None, _is_unclaimed(), _is_stale(config))


def _is_unclaimed() -> ColumnElement[bool]:
    return and_(
        WebhookDelivery.closed_at.is_(None),
        WebhookDelivery.published_at.is_not(None),
        WebhookDelivery.status == DeliveryStatus.OWED.value,
    )


def _is_stale(config: StepSettings) -> ColumnElement[bool]:
    return WebhookDelivery.published_at < func.now() - config.republish_after


def backlog(session: Session) -> tuple[dict[DeliveryStatus, int], float]:
    """How many have not ended, by status; and for how many seconds the oldest could have been sent."""
    open_ones = WebhookDelivery.closed_at.is_(None)
    query = select(WebhookDelivery.status, func.count()).where(open_ones).group_by(WebhookDelivery.status)
    counts = {status: count for status, count in session.execute(query)}  # noqa: C416 - dict() of a Result reads it as a mapping
    waited = func.extract("epoch", func.now() - func.min(WebhookDelivery.next_attempt_at))
    due = (open_ones, WebhookDelivery.next_attempt_at <= func.now())
    seconds = session.scalar(select(waited).where(*due, WebhookDelivery.status == DeliveryStatus.OWED.value))
    return {status: counts.get(status.value, 0) for status in OPEN}, float(seconds or 0)


def _waits() -> ColumnElement[bool]:
    return and_(WebhookDelivery.closed_at.is_(None), WebhookDelivery.published_at.is_(None))
