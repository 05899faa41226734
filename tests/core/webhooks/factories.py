"""Endpoints, deliveries and outcomes, made the way the product makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import analyses, keys
from core.domain import AnalysisStatus
from core.errors import DeepDefendError
from core.models import Analysis, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.webhooks import endpoints, events
from core.webhooks.domain import ENDS, EventType, Outcome
from tests.core.factories import create_analysis, create_caller

URL = "https://example.com/hook"
ALL = tuple(EventType)


def create_endpoint(
    session: Session, owner: str = "alice", url: str | None = URL, events: Sequence[EventType] = ENDS
) -> tuple[WebhookEndpoint, str]:
    """An endpoint and its secret."""
    return endpoints.create(session, owner, url=url, events=events)


def caller_of(session: Session, owner: str = "alice") -> keys.Caller:
    return create_caller(session, owner)


def ended(
    session: Session, owner: str = "alice", status: AnalysisStatus = AnalysisStatus.FAILED, **columns: Any
) -> Analysis:
    """An analysis of that owner that ends now."""
    row = create_analysis(session, caller_of(session, owner))
    for name, value in columns.items():
        setattr(row, name, value)
    session.flush()
    if status is AnalysisStatus.COMPLETED:
        analyses.begin(session, row.id)
        analyses.transition(session, row.id, status, verdict="REAL", confidence=77.0)
    elif status is AnalysisStatus.FAILED:
        analyses.fail(session, row.id, DeepDefendError("broken", code="undecodable_media"))
    else:
        analyses.cancel(session, owner, row.id)
    return row


def owed(session: Session, endpoint: WebhookEndpoint, url: str | None = None) -> WebhookDelivery:
    """A delivery of an end, owed to that endpoint alone."""
    analysis = create_analysis(session, caller_of(session, endpoint.owner))
    row = events.new_delivery(
        endpoint,
        event_type=EventType.FAILED.value,
        url=url or endpoint.url or URL,
        body=events.written(EventType.FAILED.value, datetime.now(UTC), {"analysis_id": str(analysis.id)}),
        event_id=events.new_event_id(),
        analysis_id=analysis.id,
    )
    session.add(row)
    session.flush()
    return row


def outcome(status: int | None = 500, **more: Any) -> Outcome:
    """What came of a try."""
    return Outcome(at=datetime.now(UTC), milliseconds=12, status=status, **more)


def deliveries_of(session: Session, **having: Any) -> list[WebhookDelivery]:
    """Deliveries with these columns, in the order they were owed."""
    query = select(WebhookDelivery).filter_by(**having).order_by(WebhookDelivery.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def attempts_of(session: Session, delivery_id: UUID) -> list[WebhookAttempt]:
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return list(session.scalars(query.order_by(WebhookAttempt.number)))


def make_due(session: Session) -> None:
    """As if every delay had passed."""
    session.execute(text("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE status = 'owed'"))


def backdate(session: Session, column: str, by: timedelta, table: str = "webhook_deliveries") -> None:
    """As if that column had been written so much earlier."""
    session.execute(text(f"UPDATE {table} SET {column} = {column} - :by"), {"by": by})  # noqa: S608 - ours
