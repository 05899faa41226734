"""Canceling: who may, what of, what it does to the steps, and what is to be cleared away after."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import analyses, db, steps
from core.domain import AnalysisStatus, Stage
from core.errors import Conflict, DeepDefendError, Fenced, NotFound
from core.models import Analysis
from tests.core.factories import build_manifest, claim_step, create_analysis, create_caller, extract


def settle(session: Session, analysis_id: UUID, ago: str = "1 minute") -> None:
    """As if it had ended that long ago."""
    session.execute(
        text("UPDATE analyses SET completed_at = completed_at - CAST(:ago AS interval) WHERE id = :id"),
        {"ago": ago, "id": analysis_id},
    )


def canceled(session: Session) -> Analysis:
    row = create_analysis(session)
    return analyses.cancel(session, row.owner, row.id)


@pytest.mark.parametrize("touched", [False, True])
def test_a_living_analysis_ends_and_all_its_steps_with_it(session: Session, touched: bool) -> None:
    row = create_analysis(session)
    if touched:
        extract(session, row, build_manifest(shards=2))
        claim = claim_step(session, row.id, Stage.VIDEO)
    session.refresh(row)
    before = row.version
    found = analyses.cancel(session, row.owner, row.id)
    assert (found.status, found.report, found.error) == ("canceled", None, None)
    assert found.completed_at is not None
    assert found.version > before
    assert all(step.closed_at for step in steps.of_analysis(session, row.id))
    if touched:
        assert steps.held(session, [claim]) == set()
        with pytest.raises(Fenced):
            steps.finish(session, claim)


def test_canceling_again_changes_nothing(session: Session) -> None:
    first = canceled(session)
    version, ended = first.version, first.completed_at
    again = analyses.cancel(session, first.owner, first.id)
    assert (again.version, again.completed_at) == (version, ended)


@pytest.mark.parametrize("end", [AnalysisStatus.COMPLETED, AnalysisStatus.FAILED])
def test_what_has_ended_otherwise_stays_as_it_is(session: Session, end: AnalysisStatus) -> None:
    row = create_analysis(session)
    claim_step(session, row.id, Stage.EXTRACT)
    assert analyses.transition(session, row.id, end)
    with pytest.raises(Conflict, match=end.value):
        analyses.cancel(session, row.owner, row.id)
    session.refresh(row)
    assert row.status == end


def test_a_strangers_analysis_is_not_there(session: Session) -> None:
    row = create_analysis(session)
    with pytest.raises(NotFound):
        analyses.cancel(session, create_caller(session, "mallory").owner, row.id)
    with pytest.raises(NotFound):
        analyses.cancel(session, row.owner, uuid4())
    session.refresh(row)
    assert row.status == "queued"


def test_canceled_and_ended_at_the_same_time_it_is_one_of_them(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        row = create_analysis(session)
    outcomes: list[str] = []
    ready = threading.Barrier(2)

    def cancel() -> None:
        ready.wait(30)
        try:
            with db.transaction() as session:
                analyses.cancel(session, row.owner, row.id)
        except Conflict:
            return
        outcomes.append("canceled")

    def fail() -> None:
        ready.wait(30)
        with db.transaction() as session:
            if analyses.fail(session, row.id, DeepDefendError("it broke")):
                outcomes.append("failed")

    threads = [threading.Thread(target=act) for act in (cancel, fail)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with db.read() as session:
        assert [analyses.load(session, row.id).status] == outcomes


def test_a_look_tells_what_is_held_and_extends_nothing(session: Session) -> None:
    mine = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    lost = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    analyses.transition(session, lost.analysis_id, AnalysisStatus.CANCELED)
    session.execute(text("UPDATE steps SET lease_expires = 'epoch' WHERE status = 'running'"))
    assert steps.held(session, [mine, lost]) == {mine.step_id}
    assert steps.held(session, [mine.model_copy(update={"attempt": 2})]) == set()
    assert steps.held(session, []) == set()
    left = session.scalars(text("SELECT lease_expires = 'epoch' FROM steps WHERE status = 'running'")).all()
    assert left == [True]


def test_only_what_ended_without_a_report_is_cleared_away_and_once(session: Session) -> None:
    row, fresh, failed, living = (
        canceled(session),
        canceled(session),
        create_analysis(session),
        create_analysis(session),
    )
    analyses.fail(session, failed.id, DeepDefendError("it broke"))
    for ended in (row, failed):
        settle(session, ended.id)
    assert fresh.completed_at is not None, "somebody may still be at work on it"
    assert set(analyses.uncleared(session)) == {row.id, failed.id}
    analyses.mark_cleared(session, row.id)
    assert analyses.uncleared(session) == [failed.id]
    assert analyses.is_without_report(session, row.id)
    assert analyses.is_without_report(session, failed.id)
    assert not analyses.is_without_report(session, living.id)


def test_a_completed_analysis_is_never_cleared_away(session: Session) -> None:
    row = create_analysis(session)
    analyses.transition(session, row.id, AnalysisStatus.PROCESSING)
    analyses.transition(session, row.id, AnalysisStatus.COMPLETED)
    settle(session, row.id)
    assert analyses.uncleared(session) == []
    assert not analyses.is_without_report(session, row.id)


def test_clearing_keeps_what_extraction_said(session: Session) -> None:
    row = create_analysis(session)
    extract(session, row, build_manifest())
    analyses.cancel(session, row.owner, row.id)
    analyses.mark_cleared(session, row.id)
    session.expire_all()
    detail = steps.of_analysis(session, row.id)[0].detail
    assert detail == {"frames": 4, "sandbox": "rlimits", analyses.CLEARED: True}
