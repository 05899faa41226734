"""What reads a whole table while the service goes on writing to it.

Each statement commits on its own and may be run again: one that was interrupted leaves an invalid index
behind, which goes first.

Revision: 0007
Follows: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INDEXES: dict[str, tuple[str, str, str | None]] = {
    "ix_analyses_key_active": ("analyses", "key_prefix", "completed_at IS NULL"),
    "ix_analyses_media_due": (
        "analyses",
        "media_until",
        "media_until IS NOT NULL AND media_erased_at IS NULL",
    ),
    "ix_analyses_completed_at": ("analyses", "completed_at", "completed_at IS NOT NULL"),
    "ix_media_object_key": ("media", "object_key", None),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, column, where) in INDEXES.items():
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                table,
                [column],
                postgresql_where=None if where is None else sa.text(where),
                postgresql_concurrently=True,
            )
        for check in ("ck_analyses_sourced", "ck_analyses_lane"):
            op.execute(f"ALTER TABLE analyses VALIDATE CONSTRAINT {check}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (table, _, _) in INDEXES.items():
            op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
