"""Worker processes: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base


class WorkerProcess(Base):
    """One live worker process and what it has loaded; pruned when it stops beating."""

    __tablename__ = "worker_processes"

    boot_id: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[Any]]  #: the queues it consumes
    version: Mapped[str]
    sandbox: Mapped[str | None]
    detectors: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
