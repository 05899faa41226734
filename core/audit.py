"""The audit log: who did what to keys, analyses and holds, written in the transaction that does it.

Rows are added and read, here and nowhere else; a trigger refuses to change or delete one. They outlive
what they are about, so they name things by id and say no more of them than a receipt needs.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from core import cursors
from core.cursors import Page
from core.domain import Frozen
from core.models import AuditEntry

#: Actors that are no API key.
COMMAND_LINE: Final = "command line"
DISPATCHER: Final = "dispatcher"
WORKER: Final = "worker"


class Action(StrEnum):
    """What was done. Stable: programs filter by it."""

    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    HOLD_SET = "hold.set"
    HOLD_RELEASED = "hold.released"
    ANALYSIS_DELETED = "analysis.deleted"  #: its rows are gone; its objects are being deleted
    ANALYSIS_ERASED = "analysis.erased"  #: nothing of it is left; the detail is the receipt
    MEDIA_ERASED = "media.erased"  #: the file and the pictures of an analysis; the report stays
    FEEDBACK_GIVEN = "feedback.given"  #: somebody said what an analysed file is
    ENDPOINT_CREATED = "webhook_endpoint.created"
    ENDPOINT_CHANGED = "webhook_endpoint.changed"
    ENDPOINT_DELETED = "webhook_endpoint.deleted"
    SECRET_ROTATED = "webhook_endpoint.secret_rotated"  # noqa: S105 - the name of an event
    STORAGE_CLAIMED = "storage.claimed"  #: this installation took the bucket for its own
    ORPHANS_ERASED = "storage.orphans_erased"  #: objects that no row named


class Filters(Frozen):
    """Which entries to list."""

    action: Action | None = None
    subject: str | None = None
    after: datetime | None = None  #: at or after
    before: datetime | None = None


def record(
    session: Session,
    *,
    actor: str,
    owner: str | None,
    action: Action,
    subject: str | UUID,
    detail: dict[str, Any] | None = None,
    request_id: str | None = None,
) -> AuditEntry:
    """Add an entry. It is there if, and only if, what it tells of is committed.

    `actor` is the public prefix of an API key, or one of the words above.
    """
    entry = AuditEntry(
        id=uuid7(),
        actor=actor,
        owner=owner,
        action=action.value,
        subject=str(subject),
        detail=detail or {},
        request_id=request_id,
    )
    session.add(entry)
    session.flush()
    return entry


def page(
    session: Session, owner: str, *, filters: Filters, cursor: str | None = None, limit: int = 50
) -> Page[AuditEntry]:
    """What was done to the owner's things, the newest first. Raises InvalidCursor."""
    scope = f"audit|{owner}|{filters.model_dump_json()}"
    query = select(AuditEntry).where(AuditEntry.owner == owner)
    if filters.action is not None:
        query = query.where(AuditEntry.action == filters.action.value)
    if filters.subject is not None:
        query = query.where(AuditEntry.subject == filters.subject)
    if filters.after is not None:
        query = query.where(AuditEntry.at >= filters.after)
    if filters.before is not None:
        query = query.where(AuditEntry.at < filters.before)
    if cursor is not None:
        at, identity = cursors.decode(cursor, scope)
        query = query.where(
            tuple_(AuditEntry.at, AuditEntry.id) < (datetime.fromisoformat(at), UUID(identity))
        )
    rows = session.scalars(query.order_by(AuditEntry.at.desc(), AuditEntry.id.desc()).limit(limit + 1)).all()
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], cursors.encode([last.at.isoformat(), str(last.id)], scope))


def find(session: Session, *, action: Action, subject: str | UUID) -> AuditEntry | None:
    """The latest entry of that kind about that thing."""
    return session.scalars(
        select(AuditEntry)
        .where(AuditEntry.subject == str(subject), AuditEntry.action == action.value)
        .order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
        .limit(1)
    ).one_or_none()
