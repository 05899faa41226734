"""The dispatcher asks every second: what it asks must not read the tables of years."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from core import analyses, outbox, retention, steps
from core.config import settings


def plan(session: Session, query: Select[Any]) -> str:
    """How Postgres goes about it when reading a whole table is the last resort."""
    sql = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
    session.execute(text("SET LOCAL enable_seqscan = off"))
    return "\n".join(session.scalars(text(f"EXPLAIN {str(sql).replace(':', chr(92) + ':')}")).all())


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (analyses.overdue_query(), "_active on analyses"),
        (analyses.stuck_query(), "_active on analyses"),
        (analyses.uncleared_query(), "pk_analyses"),
        (retention.media_due_query(), "ix_analyses_media_due"),
        (retention.analyses_due_query(timedelta(days=1)), "ix_analyses_completed_at"),
        (steps.expired_query(), "ix_steps_open"),
        (outbox.owed_query(settings().steps), "ix_steps_open"),
        (outbox.stale_query(settings().steps), "ix_steps_open"),
    ],
)
def test_what_is_over_is_not_looked_at(session: Session, query: Select[Any], index: str) -> None:
    found = plan(session, query)
    assert index in found
    assert "Seq Scan" not in found
