"""What happens to an analysis, as it is told: owed in the transaction that makes it true.

A body is thin: ids, figures and links, so that it may be sent twice, late or out of order. It is made
once, and that exact text is signed and sent on every try.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, func, or_, select, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from core import steps
from core.domain import AnalysisStatus, Stage
from core.models import Analysis, Step, WebhookDelivery, WebhookEndpoint
from core.webhooks.domain import DeliveryStatus, EventType

#: Standard Webhooks advise less than 20 kB; metadata that does not fit is left out.
MAX_BODY_BYTES: Final = 20_000
#: Path of an analysis: relative, since a server behind a proxy does not know its own name.
ANALYSIS_PATH: Final = "/v1/analyses/{}"
EVENT_OF_END: Final = {
    AnalysisStatus.COMPLETED: EventType.COMPLETED,
    AnalysisStatus.FAILED: EventType.FAILED,
    AnalysisStatus.CANCELED: EventType.CANCELED,
}
FACTS: Final = (
    Analysis.id,
    Analysis.owner,
    Analysis.webhook_url,
    Analysis.status,
    Analysis.verdict,
    Analysis.confidence,
    Analysis.error,
    Analysis.metadata_,
    func.clock_timestamp().label("now"),
)
Facts = Row[Any]


def owe_end(session: Session, analysis_id: UUID, status: AnalysisStatus) -> None:
    """Owe the telling of an end, in the transaction that ended it and holds the analysis row."""
    _owe(session, _facts(session, analysis_id), EVENT_OF_END[status])
    _drop_waiting_progress(session, analysis_id)  # deliveries come after their endpoints


def owe_progress(session: Session, analysis_id: UUID, stage: Stage) -> None:
    """Owe the news that a stage has closed, if it has; what was not sent of earlier news is dropped.

    Call it in the transaction that closes a step of the stage and holds the analysis row.
    """
    still_open = select(Step.id).where(
        Step.analysis_id == analysis_id, Step.stage == stage.value, Step.closed_at.is_(None)
    )
    if session.scalar(still_open.limit(1)) is None:
        facts = _facts(session, analysis_id)
        _owe(session, facts, EventType.PROGRESS, stage=stage.value)


def new_delivery(
    endpoint: WebhookEndpoint,
    *,
    event_type: str,
    url: str,
    body: str,
    event_id: str,
    analysis_id: UUID | None = None,
) -> WebhookDelivery:
    """A delivery that is owed at once."""
    return WebhookDelivery(
        owner=endpoint.owner,
        endpoint_id=endpoint.id,
        analysis_id=analysis_id,
        event_id=event_id,
        event_type=event_type,
        url=url,
        body=body,
        status=DeliveryStatus.OWED.value,
    )


def new_event_id() -> str:
    """A `webhook-id`: the same on each try, at every endpoint. It has no full stop: that is the separator."""
    return f"evt_{uuid7().hex}"


def written(event_type: str, at: datetime, data: dict[str, Any]) -> str:
    """The body of an event; `at` in any time zone."""
    body = {"type": event_type, "timestamp": _rfc3339(at), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(session: Session, analysis_id: UUID) -> Facts:
    """Columns, not the object: what this transaction has just updated past the session."""
    return session.execute(select(*FACTS).where(Analysis.id == analysis_id)).one()


def _owe(session: Session, facts: Facts, event: EventType, **more: Any) -> None:
    listeners = _listeners(session, facts, event)
    if not listeners:
        return
    if event is EventType.PROGRESS:
        _drop_waiting_progress(session, facts.id)
    body, event_id = _body(facts, event, **more), new_event_id()
    session.add_all(
        new_delivery(
            endpoint,
            event_type=event.value,
            url=endpoint.url or facts.webhook_url,
            body=body,
            event_id=event_id,
            analysis_id=facts.id,
        )
        for endpoint in listeners
    )
    session.flush()
    steps.ring(session)


def _listeners(session: Session, facts: Facts, event: EventType) -> list[WebhookEndpoint]:
    """Who wants to know. Locked against deletion alone: an endpoint that goes must not fail the end."""
    addressed = [] if facts.webhook_url is None else [WebhookEndpoint.url.is_(None)]
    query = (
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.owner == facts.owner,
            WebhookEndpoint.disabled_at.is_(None),
            WebhookEndpoint.events.contains([event.value]),
            or_(WebhookEndpoint.url.is_not(None), *addressed),
        )
        .order_by(WebhookEndpoint.id)
        .with_for_update(read=True, key_share=True)
    )
    return list(session.scalars(query))


def _drop_waiting_progress(session: Session, analysis_id: UUID) -> None:
    """Old news: at most one is waiting for each endpoint, and none once the analysis has ended."""
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.analysis_id == analysis_id,
            WebhookDelivery.event_type == EventType.PROGRESS.value,
            WebhookDelivery.status == DeliveryStatus.OWED.value,
        )
        .values(status=DeliveryStatus.DROPPED.value, closed_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def _body(facts: Facts, event: EventType, **more: Any) -> str:
    here = ANALYSIS_PATH.format(facts.id)
    data = {
        "analysis_id": str(facts.id),
        "status": facts.status,
        "verdict": facts.verdict,
        "confidence": facts.confidence,
        "error": (facts.error or {}).get("code"),
        **more,
        "links": {"self": here, "intervals": f"{here}/intervals"},
        "metadata": facts.metadata_,
    }
    body = written(event.value, facts.now, data)
    if len(body.encode()) < MAX_BODY_BYTES:
        return body
    return written(event.value, facts.now, data | {"metadata": None})
