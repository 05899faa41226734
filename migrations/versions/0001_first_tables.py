"""First tables: analyses, media, steps, intervals, tracks, keys, worker processes.

Revision: 0001
Follows:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_api_keys()
    _create_media()
    _create_worker_processes()
    _create_analyses()
    _create_intervals()
    _create_steps()
    _create_tracks()


def _create_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("scopes", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("last_used_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )


def _create_media() -> None:
    op.create_table(
        "media",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.String(), nullable=False),
        sa.Column("facts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_media")),
        sa.UniqueConstraint("owner", "sha256", name=op.f("uq_media_owner_sha256")),
    )


def _create_worker_processes() -> None:
    op.create_table(
        "worker_processes",
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("queues", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("sandbox", sa.String(), nullable=True),
        sa.Column(
            "detectors",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column(
            "started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "seen_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("boot_id", name=op.f("pk_worker_processes")),
    )


def _create_analyses() -> None:
    op.create_table(
        "analyses",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("media_id", sa.UUID(), nullable=False),
        sa.Column("filename", sa.String(), nullable=True),
        sa.Column("options", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "metadata",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("report", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("completed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deadline", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(completed_at IS NULL) = (status IN ('queued', 'processing'))", name=op.f("ck_analyses_ended")
        ),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name=op.f("fk_analyses_media_id_media")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analyses")),
    )
    op.create_index(
        "ix_analyses_deadline_active",
        "analyses",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_index(op.f("ix_analyses_media_id"), "analyses", ["media_id"], unique=False)
    op.create_index(
        "ix_analyses_owner_created_at_id", "analyses", ["owner", "created_at", "id"], unique=False
    )


def _create_intervals() -> None:
    op.create_table(
        "intervals",
        sa.Column("analysis_id", sa.UUID(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("end", sa.Double(), nullable=False),
        sa.Column("video_score", sa.Double(), nullable=True),
        sa.Column("video_reason", sa.String(), nullable=True),
        sa.Column("audio_score", sa.Double(), nullable=True),
        sa.Column("audio_reason", sa.String(), nullable=True),
        sa.Column(
            "frames",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("video", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("audio", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "(audio_score IS NULL) <> (audio_reason IS NULL)", name=op.f("ck_intervals_audio_score_or_reason")
        ),
        sa.CheckConstraint(
            "(video_score IS NULL) <> (video_reason IS NULL)", name=op.f("ck_intervals_video_score_or_reason")
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"],
            ["analyses.id"],
            name=op.f("fk_intervals_analysis_id_analyses"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("analysis_id", "index", name=op.f("pk_intervals")),
    )


def _create_steps() -> None:
    op.create_table(
        "steps",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("analysis_id", sa.UUID(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("shard", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column(
            "detail",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "payload",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("published_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("closed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(closed_at IS NOT NULL) = (status IN ('done', 'failed', 'skipped'))",
            name=op.f("ck_steps_closed"),
        ),
        sa.CheckConstraint("(status = 'running') = (lease_owner IS NOT NULL)", name=op.f("ck_steps_leased")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name=op.f("fk_steps_analysis_id_analyses"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint("analysis_id", "stage", "shard", name=op.f("uq_steps_analysis_id_stage_shard")),
    )
    op.create_index(
        "ix_steps_open",
        "steps",
        ["status", "published_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NULL"),
    )


def _create_tracks() -> None:
    op.create_table(
        "tracks",
        sa.Column("analysis_id", sa.UUID(), nullable=False),
        sa.Column("track", sa.Integer(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("end", sa.Double(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("thumbnail_key", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name=op.f("fk_tracks_analysis_id_analyses"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("analysis_id", "track", name=op.f("pk_tracks")),
    )


def downgrade() -> None:
    op.drop_table("tracks")
    op.drop_index("ix_steps_open", table_name="steps", postgresql_where=sa.text("closed_at IS NULL"))
    op.drop_table("steps")
    op.drop_table("intervals")
    op.drop_index("ix_analyses_owner_created_at_id", table_name="analyses")
    op.drop_index(op.f("ix_analyses_media_id"), table_name="analyses")
    op.drop_index(
        "ix_analyses_deadline_active", table_name="analyses", postgresql_where=sa.text("completed_at IS NULL")
    )
    op.drop_table("analyses")
    op.drop_table("worker_processes")
    op.drop_table("media")
    op.drop_table("api_keys")
