"""Addresses that want to be told, and the secrets that sign what they are told.

An endpoint without a URL holds the secret of analyses that bring their own `webhook_url`; an owner has
at most one. Every function that changes one takes its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core import urls
from core.config import settings
from core.errors import Conflict, InvalidOption, NotFound
from core.models import WebhookDelivery, WebhookEndpoint
from core.webhooks import secrets
from core.webhooks.domain import DeliveryStatus, Disabled, EventType

#: Of the advisory locks that count the endpoints of an owner.
COUNTING = 0x0DD_0003


def create(
    session: Session,
    owner: str,
    *,
    url: str | None,
    events: Sequence[EventType],
    description: str | None = None,
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its secret, which nobody can show again.

    Raises UnsafeUrl for an address that its text alone forbids, Conflict when there are enough of them.
    """
    address = None if url is None else urls.parse(url, settings().webhooks).url
    _make_room(session, owner, has_url=address is not None)
    secret = secrets.generate()
    row = WebhookEndpoint(
        owner=owner,
        url=address,
        events=_plain(events),
        description=description,
        secret=secrets.seal(secret),
    )
    session.add(row)
    session.flush()
    return row, secret


def _make_room(session: Session, owner: str, *, has_url: bool) -> None:
    session.execute(select(func.pg_advisory_xact_lock(COUNTING, func.hashtext(owner))))
    mine = list_endpoints(session, owner)
    if not has_url and any(row.url is None for row in mine):
        raise Conflict("there is an endpoint without a URL already", code="endpoint_exists")
    limit = settings().webhooks.max_endpoints
    if has_url and sum(row.url is not None for row in mine) >= limit:
        raise Conflict("you have as many endpoints as you may", code="too_many_endpoints", limit=limit)


def _plain(events: Sequence[EventType]) -> list[Any]:
    return [event.value for event in EventType if event in events]


def list_endpoints(session: Session, owner: str) -> Sequence[WebhookEndpoint]:
    """The owner's endpoints, the oldest first."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.owner == owner)
    return session.scalars(query.order_by(WebhookEndpoint.created_at, WebhookEndpoint.id)).all()


def find(session: Session, owner: str, endpoint_id: UUID, *, for_change: bool = False) -> WebhookEndpoint:
    """The owner's endpoint. Raises NotFound, also for another owner's."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.owner == owner)
    row = session.scalar(query.with_for_update(key_share=True) if for_change else query)
    if row is None:
        raise NotFound("there is no such webhook endpoint, or it is not yours")
    return row


def change(session: Session, owner: str, endpoint_id: UUID, **changes: Any) -> WebhookEndpoint:
    """Change `url`, `events`, `description` or `enabled`; what is not named stays.

    A new URL is also used for what is still owed. Enabling starts with a clean record; disabling drops
    what is owed. Raises NotFound, UnsafeUrl, and InvalidOption for a URL where there is to be none.
    """
    row = find(session, owner, endpoint_id, for_change=True)
    if "url" in changes:
        _readdress(session, row, changes["url"])
    if "events" in changes:
        row.events = _plain(changes["events"])
    if "description" in changes:
        row.description = changes["description"]
    if changes.get("enabled") is True:
        row.disabled_at = row.disabled_reason = row.failing_since = None
    if changes.get("enabled") is False and row.disabled_at is None:
        disable(session, row, Disabled.BY_OWNER)
    session.flush()
    return row


def _readdress(session: Session, row: WebhookEndpoint, url: str) -> None:
    if row.url is None:
        raise InvalidOption("this endpoint has no URL: each analysis brings its own", field="url")
    row.url = urls.parse(url, settings().webhooks).url
    row.failing_since = None
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == row.id, WebhookDelivery.closed_at.is_(None))
        .values(url=row.url)
        .execution_options(synchronize_session=False)
    )


def disable(session: Session, row: WebhookEndpoint, reason: Disabled) -> None:
    """Tell it nothing more and drop what is owed to it. The row must be locked."""
    row.disabled_at, row.disabled_reason = _now(session), reason.value
    session.flush()
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == row.id, WebhookDelivery.status == DeliveryStatus.OWED.value)
        .values(status=DeliveryStatus.DROPPED.value, closed_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def remove(session: Session, owner: str, endpoint_id: UUID) -> None:
    """Forget an endpoint with its secret, its log and what is owed to it. Raises NotFound."""
    session.delete(find(session, owner, endpoint_id))
    session.flush()


def rotate(session: Session, owner: str, endpoint_id: UUID) -> tuple[WebhookEndpoint, str]:
    """A new secret; the former one signs too until the overlap ends.

    Raises NotFound, and Conflict inside the overlap: one more rotation would take away a secret that
    receivers still rely on.
    """
    row = find(session, owner, endpoint_id, for_change=True)
    now, secret = _now(session), secrets.generate()
    if row.former_secret_until is not None and row.former_secret_until > now:
        until = row.former_secret_until.isoformat()
        raise Conflict("the former secret still signs", code="rotation_in_progress", until=until)
    # One that nobody can read signs nothing, and must not stand in the way of its own replacement.
    readable = secrets.is_readable(row.secret)
    row.former_secret = row.secret if readable else None
    row.former_secret_until = now + settings().webhooks.secret_overlap if readable else None
    row.secret = secrets.seal(secret)
    session.flush()
    return row, secret


def check_address(session: Session, owner: str, url: str | None) -> None:
    """Refuse a submission whose `webhook_url` could never be told: before any work is accepted.

    Raises UnsafeUrl, and InvalidOption when there is no secret to sign with.
    """
    if url is None:
        return
    urls.parse(url, settings().webhooks)
    ready = select(WebhookEndpoint.id).where(
        WebhookEndpoint.owner == owner, WebhookEndpoint.url.is_(None), WebhookEndpoint.disabled_at.is_(None)
    )
    if session.scalar(ready) is None:
        raise InvalidOption(
            "`webhook_url` needs a secret: create a webhook endpoint without a URL, or enable it",
            code="no_webhook_secret",
            field="webhook_url",
        )


def forget_former_secrets(session: Session) -> None:
    """Delete what signs no more."""
    session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.former_secret_until < func.now())
        .values(former_secret=None, former_secret_until=None)
        .execution_options(synchronize_session=False)
    )


def reseal(session: Session) -> tuple[int, int]:
    """Encrypt every secret with the first of today's keys; how many, and how many nobody can read."""
    done = lost = 0
    for row in session.scalars(select(WebhookEndpoint).with_for_update(key_share=True)):
        try:
            row.secret = secrets.reseal(row.secret)
            row.former_secret = row.former_secret and secrets.reseal(row.former_secret)
            done += 1
        except secrets.SecretUnreadable:
            lost += 1
    return done, lost


def _now(session: Session) -> datetime:
    return session.scalars(select(func.now())).one()
