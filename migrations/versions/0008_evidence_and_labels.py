"""Pictures of the evidence, lips and sound, analyses that look again, and what people say a file is.

Revision: 0008
Follows: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LABELS = "label IN ('real', 'fake')"


def upgrade() -> None:
    jsonb = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.add_column("analyses", sa.Column("artifacts", jsonb, server_default=sa.text("'{}'"), nullable=False))
    op.add_column("analyses", sa.Column("derived_from", sa.UUID(), nullable=True))
    op.add_column("intervals", sa.Column("still_key", sa.String(), nullable=True))
    op.add_column("intervals", sa.Column("still_frame", sa.Integer(), nullable=True))
    op.add_column("tracks", sa.Column("lips", jsonb, nullable=True))
    op.create_table(
        "feedback",
        sa.Column("analysis_id", sa.UUID(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(LABELS, name=op.f("ck_feedback_label")),
        sa.ForeignKeyConstraint(
            ["analysis_id"],
            ["analyses.id"],
            name=op.f("fk_feedback_analysis_id_analyses"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("analysis_id", name=op.f("pk_feedback")),
    )


def downgrade() -> None:
    op.drop_table("feedback")
    op.drop_column("tracks", "lips")
    op.drop_column("intervals", "still_frame")
    op.drop_column("intervals", "still_key")
    op.drop_column("analyses", "derived_from")
    op.drop_column("analyses", "artifacts")
