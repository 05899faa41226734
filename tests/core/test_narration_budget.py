"""How often a language model may be asked: one bucket for all workers, in Postgres."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core import quotas
from core.models import RateLimit


@pytest.mark.parametrize("calls", [1, 3])
def test_a_days_calls_and_no_more(session: Session, calls: int) -> None:
    assert [quotas.take_narration(session, calls) for _ in range(calls + 2)] == [True] * calls + [False] * 2


def test_nought_means_never(session: Session) -> None:
    assert not quotas.take_narration(session, 0)
    assert session.scalars(select(RateLimit)).all() == []


def test_calls_come_back_over_the_day(session: Session) -> None:
    while quotas.take_narration(session, 24):
        continue
    session.execute(text("UPDATE rate_limits SET refilled_at = refilled_at - interval '61 minutes'"))
    assert [quotas.take_narration(session, 24) for _ in range(2)] == [True, False]


def test_no_key_pays_for_it_and_it_pays_for_no_key(session: Session) -> None:
    quotas.spend(session, "abcdefgh")
    quotas.take_narration(session, 5)
    rows = session.scalars(select(RateLimit).order_by(RateLimit.key_prefix)).all()
    assert (rows[0].key_prefix, rows[0].policy, rows[0].tokens) == ("", "narrations", 4)
    assert rows[1].key_prefix == "abcdefgh"
