"""Keys and what is remembered of the requests made with them: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from core.models.base import Base


class ApiKey(Base):
    """A caller's key; only a keyed hash of its secret part is kept."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    prefix: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str]
    name: Mapped[str]
    owner: Mapped[str]
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """A request that may be repeated: who works on it, or what it was answered."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("owner", "key"),
        CheckConstraint("state IN ('running', 'stored')", name="state"),
        CheckConstraint(
            "(state = 'running') = (holder IS NOT NULL)"
            " AND (state = 'running') = (lease_expires IS NOT NULL)",
            name="held",
        ),
        CheckConstraint(
            "(state = 'stored') = (fingerprint IS NOT NULL) AND (state = 'stored') = (status IS NOT NULL)"
            " AND (state = 'stored') = (headers IS NOT NULL) AND (state = 'stored') = (body IS NOT NULL)",
            name="answered",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    key: Mapped[str]
    state: Mapped[str]  #: core.idempotency.State
    holder: Mapped[str | None]  #: random per request
    lease_expires: Mapped[datetime | None]
    fingerprint: Mapped[str | None]  #: hex SHA-256 of what was asked
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[dict[str, Any] | None]
    #: An erased analysis takes its answer along.
    analysis_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("analyses.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)


class RateLimit(Base):
    """How much of a quota a key has left. Unlogged: a crash of the server forgives, and costs no more."""

    __tablename__ = "rate_limits"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key_prefix: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[float]  #: left at `refilled_at`
    refilled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AuditEntry(Base):
    """Who did what to keys, deletions and holds. A trigger refuses UPDATE and DELETE: rows are only added."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_owner_at_id", "owner", "at", "id"),
        Index("ix_audit_entries_subject", "subject"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]  #: prefix of the key, `command line` or `dispatcher`
    owner: Mapped[str | None]
    action: Mapped[str]  #: core.audit.Action
    subject: Mapped[str]  #: id of what it was done to
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    request_id: Mapped[str | None]
