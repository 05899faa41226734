"""Lanes, retention, legal holds and files named by URL.

Revision: 0003
Follows: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CHECKS = {
    "sourced": "media_id IS NOT NULL OR source_url IS NOT NULL",
    "lane": "lane IN ('interactive', 'standard', 'batch')",
}


def upgrade() -> None:
    op.add_column("analyses", sa.Column("source_url", sa.String(), nullable=True))
    op.add_column(
        "analyses", sa.Column("lane", sa.String(), server_default=sa.text("'standard'"), nullable=False)
    )
    op.add_column("analyses", sa.Column("key_prefix", sa.String(), nullable=True))
    op.add_column("analyses", sa.Column("webhook_url", sa.String(), nullable=True))
    op.add_column("analyses", sa.Column("retention_hours", sa.Integer(), nullable=True))
    op.add_column("analyses", sa.Column("media_until", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column(
        "analyses", sa.Column("media_erased_at", postgresql.TIMESTAMP(timezone=True), nullable=True)
    )
    op.add_column("analyses", sa.Column("held_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("analyses", sa.Column("hold_reason", sa.String(), nullable=True))
    op.alter_column("analyses", "media_id", existing_type=sa.UUID(), nullable=True)
    op.add_column("media", sa.Column("erased_at", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("steps", sa.Column("format", sa.Integer(), server_default=sa.text("1"), nullable=False))
    # Without a look at the rows that are there, during which nobody could write; 0007 looks.
    for name, condition in CHECKS.items():
        op.create_check_constraint(name, "analyses", condition, postgresql_not_valid=True)


def downgrade() -> None:
    # What was never fetched has no place in the older schema.
    op.execute("DELETE FROM analyses WHERE media_id IS NULL")
    op.drop_constraint(op.f("ck_analyses_lane"), "analyses", type_="check")
    op.drop_constraint(op.f("ck_analyses_sourced"), "analyses", type_="check")
    op.drop_column("steps", "format")
    op.drop_column("media", "erased_at")
    op.alter_column("analyses", "media_id", existing_type=sa.UUID(), nullable=False)
    op.drop_column("analyses", "hold_reason")
    op.drop_column("analyses", "held_at")
    op.drop_column("analyses", "media_erased_at")
    op.drop_column("analyses", "media_until")
    op.drop_column("analyses", "retention_hours")
    op.drop_column("analyses", "webhook_url")
    op.drop_column("analyses", "key_prefix")
    op.drop_column("analyses", "lane")
    op.drop_column("analyses", "source_url")
