"""The dispatcher asks every second: what it asks must not read the tables of years."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from core import analyses, outbox, retention, stability, steps
from core.config import settings
from tests.core.factories import create_analysis

#: A thousand analyses that ended long ago; the ids begin with their time, as every id here does.
YEARS = """
INSERT INTO analyses
SELECT (jsonb_populate_record(living, jsonb_build_object(
    'id', overlay(md5(number::text) PLACING '0100' FROM 1), 'status', 'completed',
    'created_at', now() - interval '300 days', 'completed_at', now() - interval '2 hours',
    'media_until', now(), 'media_erased_at', now()))).*
FROM analyses living, generate_series(1, 1000) number
"""
THEIR_STEPS = """
INSERT INTO steps
SELECT (jsonb_populate_record(open, jsonb_build_object(
    'id', gen_random_uuid(), 'analysis_id', analyses.id, 'status', 'done', 'published_at', now(),
    'closed_at', now() - interval '2 hours'))).*
FROM analyses, steps open WHERE analyses.completed_at IS NOT NULL
"""


@pytest.fixture
def years(session: Session) -> Iterator[Session]:
    """One analysis that lives among a thousand that do not, and a Postgres that knows it."""
    create_analysis(session)
    session.flush()
    for statement in (YEARS, THEIR_STEPS, "ANALYZE analyses", "ANALYZE steps"):
        session.execute(text(statement.replace(":", "\\:")))
    yield session
    session.rollback()


def plan(session: Session, query: Select[Any]) -> str:
    """How Postgres goes about it."""
    sql = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
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
        (stability.short_of_time_query(), "ix_analyses_deadline_active"),
        (outbox.owed_query(settings().steps), "ix_steps_open"),
        (outbox.stale_query(settings().steps), "ix_steps_open"),
    ],
)
def test_what_is_over_is_not_looked_at(years: Session, query: Select[Any], index: str) -> None:
    found = plan(years, query)
    assert index in found
    for table in ("analyses", "steps"):
        assert f"Seq Scan on {table}" not in found
