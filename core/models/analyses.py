"""Media, analyses, their steps and what was found: one class a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from uuid_utils.compat import uuid7

from core.errors import NotFound
from core.models.base import Base


class Media(Base):
    """The bytes of one file of one owner, stored once."""

    __tablename__ = "media"
    __table_args__ = (UniqueConstraint("owner", "sha256"), Index("ix_media_object_key", "object_key"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    object_key: Mapped[str]
    #: The object must not be used any more: it is gone, or in a row of `erasures`. The row stays for the
    #: reports that name it, until the owner sends the same bytes again.
    erased_at: Mapped[datetime | None]
    facts: Mapped[dict[str, Any] | None]  #: MediaFacts, once extraction has seen it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Upload(Base):
    """A file that its owner sends to the storage in parts, without the API in between."""

    __tablename__ = "uploads"
    __table_args__ = (
        Index("ix_uploads_expires_at", "expires_at"),
        Index("ix_uploads_owner", "owner"),
        CheckConstraint("status IN ('open', 'completed', 'used', 'aborted')", name="status"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    status: Mapped[str]
    object_key: Mapped[str]
    #: S3's own id of the parts; null once nothing of an aborted upload is left in the storage.
    multipart_id: Mapped[str | None]
    filename: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None]  #: hex; as declared, then as verified
    lease_expires: Mapped[datetime | None]  #: somebody is completing it until then
    #: What used it; an erased analysis takes the file's name along.
    analysis_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("analyses.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    completed_at: Mapped[datetime | None]
    expires_at: Mapped[datetime]


class Analysis(Base):
    """One question about one file, and its answer."""

    __tablename__ = "analyses"
    __table_args__ = (
        Index("ix_analyses_owner_created_at_id", "owner", "created_at", "id"),
        Index("ix_analyses_deadline_active", "deadline", postgresql_where=text("completed_at IS NULL")),
        Index("ix_analyses_key_active", "key_prefix", postgresql_where=text("completed_at IS NULL")),
        Index(
            "ix_analyses_media_due",
            "media_until",
            postgresql_where=text("media_until IS NOT NULL AND media_erased_at IS NULL"),
        ),
        Index("ix_analyses_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
        CheckConstraint("media_id IS NOT NULL OR source_url IS NOT NULL", name="sourced"),
        CheckConstraint("lane IN ('interactive', 'standard', 'batch')", name="lane"),
        CheckConstraint("(completed_at IS NULL) = (status IN ('queued', 'processing'))", name="ended"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    owner: Mapped[str]
    #: Null until the extraction queue has fetched `source_url`.
    media_id: Mapped[UUID | None] = mapped_column(ForeignKey("media.id"), index=True)
    source_url: Mapped[str | None]
    filename: Mapped[str | None]  #: display name only; no model and no path ever sees it
    options: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    lane: Mapped[str] = mapped_column(server_default=text("'standard'"))  #: core.domain.Lane
    key_prefix: Mapped[str | None]  #: of the API key that asked, for limits per key
    webhook_url: Mapped[str | None]  #: told of this analysis alone
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
    retention_hours: Mapped[int | None]  #: as asked for; null: the server's own
    #: Set when the analysis ends: media and pictures go then. Null: kept until deleted.
    media_until: Mapped[datetime | None]
    #: Pictures are gone, and the file unless another analysis of the owner's keeps the same bytes.
    media_erased_at: Mapped[datetime | None]
    #: What one picture shows of the whole file: name -> object key, e.g. `spectrogram`.
    artifacts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    derived_from: Mapped[UUID | None]  #: whose file this one looks at again; that analysis may be gone
    held_at: Mapped[datetime | None]  #: legal hold: nothing of it is erased, by whatever road
    hold_reason: Mapped[str | None]

    media: Mapped[Media | None] = relationship(lazy="joined")

    @property
    def file(self) -> Media:
        """The media. Raises NotFound while it is still to be fetched from its address."""
        if self.media is None:
            raise NotFound("the file has not been fetched yet")
        return self.media


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
    #: Of the payload: a worker claims only what it can read. Raised when old workers cannot.
    format: Mapped[int] = mapped_column(server_default=text("1"))
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
    still_key: Mapped[str | None]  #: the frame nearest to its middle, JPEG, longer side at most 640
    still_frame: Mapped[int | None]  #: its `Frame.n`
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
    lips: Mapped[dict[str, Any] | None]  #: core.evidence.LipSync


class Feedback(Base):
    """What a person says an analysis's file is."""

    __tablename__ = "feedback"
    __table_args__ = (CheckConstraint("label IN ('real', 'fake')", name="label"),)

    #: One word an analysis: a later one takes the place of an earlier one.
    analysis_id: Mapped[UUID] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str]  #: core.domain.Label
    note: Mapped[str | None]
    actor: Mapped[str]  #: public prefix of the key
    at: Mapped[datetime] = mapped_column(server_default=func.now())
