"""What a key has left of its quotas, who did what, and what is still to be erased.

Revision: 0006
Follows: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


#: Rows are added and read. TRUNCATE is left to whoever owns the table: a test's clean slate.
REFUSE = """
CREATE FUNCTION refuse_change_of_audit_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_entries: rows are only ever added' USING ERRCODE = 'insufficient_privilege';
END $$
"""
TRIGGER = """
CREATE TRIGGER audit_entries_are_kept BEFORE UPDATE OR DELETE ON audit_entries
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_entries()
"""


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column(
            "detail",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index("ix_audit_entries_owner_at_id", "audit_entries", ["owner", "at", "id"], unique=False)
    op.create_index("ix_audit_entries_subject", "audit_entries", ["subject"], unique=False)
    op.execute(REFUSE)
    op.execute(TRIGGER)
    _create_erasures()
    op.create_table(
        "rate_limits",
        sa.Column("key_prefix", sa.String(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column(
            "refilled_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("key_prefix", "policy", name=op.f("pk_rate_limits")),
        prefixes=["UNLOGGED"],
    )


def _create_erasures() -> None:
    jsonb = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.create_table(
        "erasures",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("analysis_id", sa.UUID(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("object_key", sa.String(), nullable=True),
        sa.Column("media", jsonb, nullable=True),
        sa.Column("rows", jsonb, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("found", jsonb, server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "requested_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "settled_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "due_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("scope IN ('media', 'analysis')", name=op.f("ck_erasures_scope")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
        sa.UniqueConstraint("analysis_id", "scope", name=op.f("uq_erasures_analysis_id_scope")),
    )
    op.create_index("ix_erasures_due_at", "erasures", ["due_at"], unique=False)
    op.create_index(
        "ix_erasures_object_key",
        "erasures",
        ["object_key"],
        unique=False,
        postgresql_where=sa.text("object_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_erasures_object_key", table_name="erasures", postgresql_where=sa.text("object_key IS NOT NULL")
    )
    op.drop_index("ix_erasures_due_at", table_name="erasures")
    op.drop_table("erasures")
    op.drop_table("rate_limits")
    op.drop_index("ix_audit_entries_subject", table_name="audit_entries")
    op.drop_index("ix_audit_entries_owner_at_id", table_name="audit_entries")
    op.drop_table("audit_entries")
    op.execute("DROP FUNCTION refuse_change_of_audit_entries")
