"""Submission, ownership, transitions, deadlines."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core import analyses, db, steps
from core.config import settings
from core.domain import ACTIVE, TERMINAL, AnalysisStatus, Options, Stage
from core.errors import DeepDefendError, NotFound
from core.models import Media, Step
from tests.core.factories import claim_step, create_analysis, create_caller, expire_leases


def upload(key: str, sha256: str = "ab" * 32) -> analyses.StoredUpload:
    return analyses.StoredUpload(sha256=sha256, size_bytes=5, object_key=key)


def test_an_accepted_analysis_owes_its_extraction(session: Session) -> None:
    caller = create_caller(session)
    analysis = analyses.submit(
        session,
        caller=caller,
        source=upload("media/a"),
        options=Options(interval_seconds=3),
        metadata={"case": 7},
    ).analysis
    assert analysis.status == AnalysisStatus.QUEUED
    assert analysis.options == Options(interval_seconds=3).model_dump(mode="json")
    assert analysis.metadata_ == {"case": 7}
    assert analysis.deadline - analysis.created_at == settings().deadline
    assert [step.stage for step in steps.of_analysis(session, analysis.id)] == ["extract"]


def test_the_same_bytes_of_one_owner_are_stored_once(session: Session) -> None:
    caller = create_caller(session)
    first = analyses.submit(session, caller=caller, source=upload("media/a"), options=Options())
    second = analyses.submit(session, caller=caller, source=upload("media/b"), options=Options())
    assert first.surplus_key is None
    assert second.surplus_key == "media/b"
    assert second.analysis.media_id == first.analysis.media_id
    assert second.analysis.id != first.analysis.id
    assert second.analysis.file.object_key == "media/a"


def test_another_owner_keeps_a_copy_of_his_own(session: Session) -> None:
    first = analyses.submit(
        session, caller=create_caller(session), source=upload("media/a"), options=Options()
    )
    second = analyses.submit(
        session, caller=create_caller(session), source=upload("media/b"), options=Options()
    )
    assert second.surplus_key is None
    assert second.analysis.media_id != first.analysis.media_id


def test_the_same_bytes_at_the_same_moment_agree_on_one_row(clean_database: str) -> None:
    with db.transaction() as session:
        caller = create_caller(session)
    surplus: list[str | None] = []
    barrier = threading.Barrier(4)

    def submit(n: int) -> None:
        barrier.wait()
        with db.transaction() as session:
            accepted = analyses.submit(session, caller=caller, source=upload(f"media/{n}"), options=Options())
            surplus.append(accepted.surplus_key)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        kept = session.scalars(select(Media.object_key)).all()
    assert clean_database
    assert len(kept) == 1
    assert sorted(key for key in surplus if key) == sorted({f"media/{n}" for n in range(4)} - set(kept))


def test_another_owners_analysis_is_not_found(session: Session) -> None:
    mine, other = create_caller(session), create_caller(session)
    analysis = create_analysis(session, mine)
    assert analyses.find(session, mine.owner, analysis.id).id == analysis.id
    for owner, identity in ((other.owner, analysis.id), (mine.owner, uuid4())):
        with pytest.raises(NotFound):
            analyses.find(session, owner, identity)
    with pytest.raises(NotFound):
        analyses.load(session, uuid4())


def test_keys_of_one_owner_see_the_same(session: Session) -> None:
    one, two = create_caller(session, owner="newsroom"), create_caller(session, owner="newsroom")
    analysis = create_analysis(session, one)
    assert analyses.find(session, two.owner, analysis.id).id == analysis.id


def status(session: Session, identity: object) -> tuple[str, int, bool]:
    session.expire_all()
    row = analyses.load(session, identity)  # type: ignore[arg-type]
    return row.status, row.version, row.completed_at is not None


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_an_analysis_ends_once(session: Session, end: AnalysisStatus) -> None:
    analysis = create_analysis(session)
    analyses.transition(session, analysis.id, AnalysisStatus.PROCESSING)
    assert analyses.transition(session, analysis.id, end)
    ended = status(session, analysis.id)
    assert ended == (end.value, 3, True)
    for other in AnalysisStatus:
        assert not analyses.transition(session, analysis.id, other)
    assert status(session, analysis.id) == ended


def test_ending_fences_the_worker_that_is_still_busy(session: Session) -> None:
    analysis = create_analysis(session)
    claim = claim_step(session, analysis.id, Stage.EXTRACT)
    analyses.transition(session, analysis.id, AnalysisStatus.CANCELED)
    assert steps.beat(session, [claim], settings().steps) == set()
    row = session.scalars(select(Step).where(Step.id == claim.step_id)).one()
    session.refresh(row)
    assert (row.status, row.reason) == ("skipped", "analysis_canceled")


def test_the_first_claim_starts_the_analysis_and_each_makes_a_new_version(session: Session) -> None:
    analysis = create_analysis(session)
    analyses.begin(session, analysis.id)
    first = status(session, analysis.id)
    analyses.begin(session, analysis.id)
    assert first == ("processing", 2, False)
    assert status(session, analysis.id) == ("processing", 3, False)


def test_a_failure_carries_its_problem_document(session: Session) -> None:
    analysis = create_analysis(session)
    assert analyses.fail(session, analysis.id, DeepDefendError("no picture, no sound", code="no_streams"))
    session.expire_all()
    error = analyses.load(session, analysis.id).error
    assert error is not None
    assert (error["code"], error["detail"]) == ("no_streams", "no picture, no sound")


def test_what_passed_its_deadline_is_overdue_until_it_has_failed(session: Session) -> None:
    late, early = create_analysis(session), create_analysis(session)
    session.execute(
        text("UPDATE analyses SET deadline = now() - interval '1 second' WHERE id = :id"), {"id": late.id}
    )
    assert analyses.overdue(session) == [late.id]
    assert analyses.fail(session, late.id, DeepDefendError("late"))
    assert analyses.overdue(session) == []
    assert status(session, early.id)[0] == "queued"


def test_an_extraction_lost_for_good_leaves_the_analysis_stuck(session: Session) -> None:
    analysis, living = create_analysis(session), create_analysis(session)
    for _ in range(settings().steps.max_attempts):
        claim_step(session, analysis.id, Stage.EXTRACT)
        expire_leases(session)
        steps.requeue_expired(session, settings().steps)
    ((identity, error),) = analyses.stuck(session)
    assert (identity, error.code) == (analysis.id, "worker_lost")
    assert analyses.fail(session, identity, error)
    assert analyses.stuck(session) == []
    assert status(session, living.id)[0] in ACTIVE


def test_ids_are_in_the_order_of_time(session: Session) -> None:
    ids = [create_analysis(session).id for _ in range(5)]
    assert ids == sorted(ids)
    assert session.scalar(select(func.count()).select_from(Media)) == 5
