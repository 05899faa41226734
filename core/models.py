"""The tables. One class a table; every change of them goes through `core.analyses` and `core.steps`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

#: Names that do not depend on the order of creation, so that migrations can refer to them.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of every row."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
        UUID: postgresql.UUID(as_uuid=True),
        str: String,
    }


class Media(Base):
    """The bytes of one file of one owner, stored once."""

    __tablename__ = "media"
    __table_args__ = (UniqueConstraint("owner", "sha256"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    object_key: Mapped[str]
    facts: Mapped[dict[str, Any] | None]  #: MediaFacts, once extraction has seen it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Analysis(Base):
    """One question about one file, and its answer."""

    __tablename__ = "analyses"
    __table_args__ = (
        Index("ix_analyses_owner_created_at_id", "owner", "created_at", "id"),
        Index("ix_analyses_deadline_active", "deadline", postgresql_where=text("completed_at IS NULL")),
        CheckConstraint("(completed_at IS NULL) = (status IN ('queued', 'processing'))", name="ended"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    media_id: Mapped[UUID] = mapped_column(ForeignKey("media.id"), index=True)
    filename: Mapped[str | None]  #: display name only; no model and no path ever sees it
    options: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    status: Mapped[str]
    verdict: Mapped[str | None]
    confidence: Mapped[float | None]
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]  #: problem document of a failed analysis
    version: Mapped[int] = mapped_column(server_default=text("1"))  #: grows with each visible change
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deadline: Mapped[datetime]

    media: Mapped[Media] = relationship(lazy="joined", innerjoin=True)


class Step(Base):
    """One unit of queue work: outbox, lease, progress bar and stopwatch in one row."""

    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("analysis_id", "stage", "shard"),
        Index("ix_steps_open", "status", "published_at", postgresql_where=text("closed_at IS NULL")),
        CheckConstraint("(status = 'running') = (lease_owner IS NOT NULL)", name="leased"),
        CheckConstraint("(closed_at IS NOT NULL) = (status IN ('done', 'failed', 'skipped'))", name="closed"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))
    stage: Mapped[str]
    shard: Mapped[int] = mapped_column(server_default=text("0"))
    status: Mapped[str]
    reason: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'")
    )  #: detectors, stopwatch, message
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))  #: which part of the media
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    lease_owner: Mapped[str | None]  #: random per process start, never a host name
    lease_expires: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class Interval(Base):
    """Two seconds (1 to 5) of the media and what each modality says of them."""

    __tablename__ = "intervals"
    __table_args__ = (
        CheckConstraint("(video_score IS NULL) <> (video_reason IS NULL)", name="video_score_or_reason"),
        CheckConstraint("(audio_score IS NULL) <> (audio_reason IS NULL)", name="audio_score_or_reason"),
    )

    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[float]
    end: Mapped[float]
    video_score: Mapped[float | None]
    video_reason: Mapped[str | None]
    audio_score: Mapped[float | None]
    audio_reason: Mapped[str | None]
    frames: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))  #: core.evidence.Frame
    video: Mapped[dict[str, Any] | None]  #: core.evidence.VideoFinding
    audio: Mapped[dict[str, Any] | None]  #: core.evidence.AudioFinding


class Track(Base):
    """One face through the video."""

    __tablename__ = "tracks"

    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)
    track: Mapped[int] = mapped_column(primary_key=True)
    start: Mapped[float]
    end: Mapped[float]
    frames: Mapped[int]
    thumbnail_key: Mapped[str | None]
    score: Mapped[float | None]


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
