"""The log of deliveries as their owner sees it, and what an owner may ask of it: again, and a test."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session, selectinload

from core import steps
from core.cursors import Page, decode, encode
from core.errors import Conflict, NotFound
from core.models import WebhookDelivery, WebhookEndpoint
from core.webhooks import endpoints, events
from core.webhooks.domain import TEST_EVENT, DeliveryStatus


def page(
    session: Session,
    endpoint: WebhookEndpoint,
    *,
    status: DeliveryStatus | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[WebhookDelivery]:
    """The endpoint's deliveries with their attempts, the newest first. Raises InvalidCursor."""
    scope = f"deliveries|{endpoint.owner}|{endpoint.id}|{status}"
    order = tuple_(WebhookDelivery.created_at, WebhookDelivery.id)
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint.id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status.value)
    if cursor is not None:
        created_at, identity = decode(cursor, scope)
        query = query.where(order < (datetime.fromisoformat(created_at), UUID(identity)))
    rows = session.scalars(
        query.options(selectinload(WebhookDelivery.attempts))
        .order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
        .limit(limit + 1)
    ).all()
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else encode([last.created_at.isoformat(), str(last.id)], scope)
    return Page(rows[:limit], following)


def find(session: Session, endpoint: WebhookEndpoint, delivery_id: UUID) -> WebhookDelivery:
    """One delivery with its attempts. Raises NotFound, also for another endpoint's."""
    row = session.scalar(
        select(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id)
        .options(selectinload(WebhookDelivery.attempts))
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound("there is no such delivery, or it is not yours")
    return row


def redeliver(session: Session, owner: str, endpoint_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """Send an event again, whatever became of it: the same id, the endpoint's present URL, all tries.

    Raises NotFound, and Conflict for a disabled endpoint or while a try is under way.
    """
    endpoint = _listening(session, owner, endpoint_id)
    query = select(WebhookDelivery).where(
        WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id
    )
    row = session.scalar(query.with_for_update())
    if row is None:
        raise NotFound("there is no such delivery, or it is not yours")
    if row.status == DeliveryStatus.SENDING:
        raise Conflict("it is being sent at this moment", code="delivery_in_progress")
    row.status, row.tries = DeliveryStatus.OWED.value, 0
    row.url = endpoint.url or row.url
    row.closed_at = row.published_at = None
    row.next_attempt_at = session.scalars(select(func.now())).one()
    session.flush()
    steps.ring(session)
    return find(session, endpoint, delivery_id)


def send_test(session: Session, owner: str, endpoint_id: UUID) -> WebhookDelivery:
    """Owe a test event to one endpoint; it is tried once.

    Raises NotFound, and Conflict for an endpoint that is disabled, has no URL, or is being tested.
    """
    endpoint = _listening(session, owner, endpoint_id, for_change=True)
    if endpoint.url is None:
        raise Conflict("it has no URL to be tested", code="endpoint_without_url")
    running = select(WebhookDelivery.id).where(
        WebhookDelivery.endpoint_id == endpoint.id,
        WebhookDelivery.event_type == TEST_EVENT,
        WebhookDelivery.closed_at.is_(None),
    )
    if session.scalar(running.limit(1)) is not None:
        raise Conflict("a test is under way", code="test_in_progress")
    now = session.scalars(select(func.now())).one()
    body = events.written(TEST_EVENT, now, {"endpoint_id": str(endpoint.id)})
    row = events.new_delivery(
        endpoint, event_type=TEST_EVENT, url=endpoint.url, body=body, event_id=events.new_event_id()
    )
    session.add(row)
    session.flush()
    steps.ring(session)
    return find(session, endpoint, row.id)


def _listening(
    session: Session, owner: str, endpoint_id: UUID, *, for_change: bool = False
) -> WebhookEndpoint:
    endpoint = endpoints.find(session, owner, endpoint_id, for_change=for_change)
    if endpoint.disabled_at is not None:
        raise Conflict("the endpoint is disabled: enable it first", code="endpoint_disabled")
    return endpoint
