"""Who is told of what, and how each telling went: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

from core.models.base import Base


class WebhookEndpoint(Base):
    """An address that wants to be told; without a URL, the secret for analyses that bring their own."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        Index("uq_webhook_endpoints_owner_own", "owner", unique=True, postgresql_where=text("url IS NULL")),
        Index("ix_webhook_endpoints_owner", "owner"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    url: Mapped[str | None]
    events: Mapped[list[Any]]  #: core.webhooks.EventType
    description: Mapped[str | None]
    secret: Mapped[bytes] = mapped_column(LargeBinary)  #: encrypted
    former_secret: Mapped[bytes | None] = mapped_column(LargeBinary)  #: signs too until the overlap ends
    former_secret_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]  #: first failure since the last success
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """One event owed to one address: outbox, lease and retry clock in one row, as steps are."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        Index(
            "ix_webhook_deliveries_due",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("closed_at IS NULL AND published_at IS NULL"),
        ),
        Index(
            "ix_webhook_deliveries_in_flight",
            "owner",
            postgresql_where=text("closed_at IS NULL AND published_at IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_endpoint_id_created_at_id", "endpoint_id", "created_at", "id"),
        CheckConstraint("status IN ('owed', 'sending', 'delivered', 'failed', 'dropped')", name="status"),
        CheckConstraint("(status = 'sending') = (lease_owner IS NOT NULL)", name="leased"),
        CheckConstraint(
            "(closed_at IS NOT NULL) = (status IN ('delivered', 'failed', 'dropped'))", name="closed"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    #: An erased analysis takes its deliveries, their bodies and answers along. Null: a test event.
    analysis_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("analyses.id", ondelete="CASCADE"), index=True
    )
    event_id: Mapped[str]  #: the `webhook-id` header: the same on each try
    event_type: Mapped[str]
    url: Mapped[str]
    body: Mapped[str]  #: the exact text that is signed and sent
    status: Mapped[str]
    attempt: Mapped[int] = mapped_column(server_default=text("0"))  #: only grows: number of the last try
    tries: Mapped[int] = mapped_column(server_default=text("0"))  #: of this round; redelivery begins another
    lease_owner: Mapped[str | None]
    lease_expires: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]  #: a message is with the broker, or a worker is at it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]

    attempts: Mapped[list[WebhookAttempt]] = relationship(
        lazy="raise", viewonly=True, order_by="WebhookAttempt.number"
    )


class WebhookAttempt(Base):
    """One try of one delivery, and what was answered."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    milliseconds: Mapped[int]
    status: Mapped[int | None]  #: of HTTP; null when there was no answer
    error: Mapped[str | None]
    answer: Mapped[str | None]  #: its first 2 kB
