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

INDEXES = {
    "ix_analyses_key_active": ("key_prefix", "completed_at IS NULL"),
    "ix_analyses_media_due": ("media_until", "media_until IS NOT NULL AND media_erased_at IS NULL"),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, (column, where) in INDEXES.items():
            op.drop_index(name, table_name="analyses", if_exists=True, postgresql_concurrently=True)
            op.create_index(
                name,
                "analyses",
                [column],
                postgresql_where=sa.text(where),
                postgresql_concurrently=True,
            )
        for check in ("ck_analyses_sourced", "ck_analyses_lane"):
            op.execute(f"ALTER TABLE analyses VALIDATE CONSTRAINT {check}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.drop_index(name, table_name="analyses", if_exists=True, postgresql_concurrently=True)
