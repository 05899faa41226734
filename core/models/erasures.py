"""What is to go from the storage: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from core.models.base import Base


class Erasure(Base):
    """Objects that are still to be deleted, and on whose word; its id is that of the receipt.

    It refers to nothing: by the time it is carried out, what it is about may be gone. When it has been
    carried out the row goes, in the transaction that writes the receipt into the audit log.
    """

    __tablename__ = "erasures"
    __table_args__ = (
        UniqueConstraint("analysis_id", "scope"),
        Index("ix_erasures_due_at", "due_at"),
        Index("ix_erasures_object_key", "object_key", postgresql_where=text("object_key IS NOT NULL")),
        CheckConstraint("scope IN ('media', 'analysis')", name="scope"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    analysis_id: Mapped[UUID]
    scope: Mapped[str]  #: core.retention.Scope: file and pictures alone, or everything
    owner: Mapped[str]
    actor: Mapped[str]  #: as in the audit log
    request_id: Mapped[str | None]
    object_key: Mapped[str | None]  #: the file's; null when it stays for another analysis, or has gone
    media: Mapped[dict[str, Any] | None]  #: core.retention.MediaFate
    rows: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))  #: how many went, by table
    #: Objects seen so far and their sizes, noted before they are deleted: what a killed process had
    #: deleted is counted all the same.
    found: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime] = mapped_column(server_default=func.now())  #: from then on nobody writes
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())  #: the dispatcher looks at it then
