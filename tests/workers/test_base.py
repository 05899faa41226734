"""What surrounds every task: it claims, it closes whatever happens, and it raises nothing."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import text

from core import analyses, db, results, steps
from core.config import settings
from core.domain import Stage, StepStatus
from core.errors import DetectorUnavailable, Fenced, MediaError, StorageError, Unreachable
from core.models import Analysis, Step
from tests.core.factories import build_manifest, claim_step, create_analysis, expire_leases, extract
from workers.base import MESSAGE_LENGTH, run_step
from workers.heart import Hold
from workers.process import this_process


@pytest.fixture
def analysis(clean_database: str) -> UUID:
    assert clean_database
    with db.transaction() as session:
        return create_analysis(session).id


@pytest.fixture
def extracted(clean_database: str) -> UUID:
    assert clean_database
    with db.transaction() as session:
        row = create_analysis(session)
        extract(session, row, build_manifest())
        return row.id


def seen(analysis_id: UUID, stage: Stage) -> tuple[Analysis, Step]:
    with db.read() as session:
        row = analyses.load(session, analysis_id)
        step = next(s for s in steps.of_analysis(session, analysis_id) if s.stage == stage.value)
    return row, step


def raising(error: Exception) -> Callable[[Hold], None]:
    def act(_: Hold) -> None:
        raise error

    return act


def test_the_work_is_done_once_under_a_claim(extracted: UUID) -> None:
    done: list[steps.Claim] = []

    def act(hold: Hold) -> None:
        done.append(hold.claim)
        with db.transaction() as session:
            results.record_findings(session, hold.claim, [])

    for _ in range(2):
        run_step(Stage.VIDEO, str(extracted), 0, act)
    row, step = seen(extracted, Stage.VIDEO)
    assert len(done) == 1
    assert (step.status, row.status) == ("done", "processing")


def test_nothing_is_done_for_a_stranger(analysis: UUID) -> None:
    def act(_: Hold) -> None:
        pytest.fail("must not run")

    run_step(Stage.VIDEO, str(analysis), 0, act)
    run_step(Stage.EXTRACT, "01a20760-4cb6-7308-b09b-d8cc8aa46ca9", 0, act)
    assert seen(analysis, Stage.EXTRACT)[1].status == "pending"


def test_a_file_that_cannot_be_analysed_fails_the_analysis_with_its_code(analysis: UUID) -> None:
    run_step(Stage.EXTRACT, str(analysis), 0, raising(MediaError("31 minutes", code="too_long")))
    row, step = seen(analysis, Stage.EXTRACT)
    assert (step.status, step.reason) == ("failed", "too_long")
    assert row.status == "failed"
    assert row.error is not None
    assert (row.error["code"], row.error["detail"]) == ("too_long", "31 minutes")


def test_a_branch_without_weights_is_skipped_and_the_analysis_goes_on(extracted: UUID) -> None:
    error = DetectorUnavailable("no weights", mend="deepdefend models pull")
    run_step(Stage.VIDEO, str(extracted), 0, raising(error))
    row, step = seen(extracted, Stage.VIDEO)
    assert (step.status, step.reason) == ("skipped", "no_detector_weights")
    assert step.detail == {"message": "no weights", "mend": "deepdefend models pull"}
    assert row.status == "processing"


def test_a_bug_in_a_branch_costs_the_branch_only(extracted: UUID) -> None:
    run_step(Stage.AUDIO, str(extracted), 0, raising(ZeroDivisionError("oops")))
    row, step = seen(extracted, Stage.AUDIO)
    assert (step.status, step.reason) == ("failed", "internal_error")
    assert step.detail["message"] == "ZeroDivisionError: oops"
    assert row.status == "processing"


def read_only(_: Hold) -> None:
    """As on a primary that was demoted: the driver calls it an internal error."""
    with db.transaction() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text("UPDATE steps SET shard = shard"))


def canceled(_: Hold) -> None:
    with db.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 1"))
        session.execute(text("SELECT pg_sleep(5)"))


@pytest.mark.parametrize("act", [read_only, canceled])
def test_a_database_that_fails_is_an_outage_and_no_verdict(
    extracted: UUID, act: Callable[[Hold], None]
) -> None:
    run_step(Stage.VIDEO, str(extracted), 0, act)
    step = seen(extracted, Stage.VIDEO)[1]
    assert (step.status, step.reason) == ("pending", "database_unavailable")


def test_a_process_that_is_leaving_claims_nothing(extracted: UUID) -> None:
    this_process.cache_clear()
    this_process().heart.let_go()
    run_step(Stage.VIDEO, str(extracted), 0, lambda _: pytest.fail("must not run"))
    this_process.cache_clear()
    assert seen(extracted, Stage.VIDEO)[1].attempt == 0


def test_what_a_stranger_says_is_kept_short_and_storable(extracted: UUID) -> None:
    run_step(Stage.VIDEO, str(extracted), 0, raising(RuntimeError("nul \0 half \ud800 " + "x" * 100_000)))
    step = seen(extracted, Stage.VIDEO)[1]
    assert step.status == "failed"
    assert step.detail["message"].startswith("RuntimeError: nul   half   xxx")
    assert len(step.detail["message"]) == MESSAGE_LENGTH


def test_a_database_that_goes_away_while_closing_leaves_the_step_to_its_lease(extracted: UUID) -> None:
    def act(_: Hold) -> None:
        with db.transaction() as session:
            session.execute(text("ALTER TABLE steps RENAME TO elsewhere"))
        raise MediaError("broken")

    try:
        run_step(Stage.VIDEO, str(extracted), 0, act)
    finally:
        with db.transaction() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO steps"))
    assert seen(extracted, Stage.VIDEO)[1].status == "running"


def test_an_outage_of_our_own_storage_costs_no_attempt(extracted: UUID) -> None:
    """Within a second a whole queue may meet a storage that restarts, and again at the next restart."""
    for _ in range(3 * settings().steps.max_attempts):
        run_step(Stage.VIDEO, str(extracted), 0, raising(StorageError("no answer")))
        step = seen(extracted, Stage.VIDEO)[1]
        assert (step.status, step.reason, step.attempt) == ("pending", "storage_unavailable", 0)
    run_step(Stage.VIDEO, str(extracted), 0, finish)
    step = seen(extracted, Stage.VIDEO)[1]
    assert (step.status, step.reason, step.attempt) == ("done", None, 1)


def finish(hold: Hold) -> None:
    with db.transaction() as session:
        results.record_findings(session, hold.claim, [])


@pytest.mark.parametrize("error", [Unreachable("no answer"), ConnectionResetError()])
def test_an_outage_of_others_is_tried_again_later(extracted: UUID, error: Exception) -> None:
    for attempt in range(1, settings().steps.max_attempts + 1):
        run_step(Stage.VIDEO, str(extracted), 0, raising(error))
        step = seen(extracted, Stage.VIDEO)[1]
        assert step.attempt == attempt
        last = attempt == settings().steps.max_attempts
        assert step.status == (StepStatus.FAILED if last else StepStatus.PENDING)


def test_a_worker_that_lost_its_lease_changes_nothing(extracted: UUID) -> None:
    def act(hold: Hold) -> None:
        with db.transaction() as session:
            expire_leases(session)
            steps.requeue_expired(session, settings().steps)
            claim_step(session, extracted, Stage.VIDEO, owner="another")
        with db.transaction() as session:
            results.record_findings(session, hold.claim, [])

    run_step(Stage.VIDEO, str(extracted), 0, act)
    step = seen(extracted, Stage.VIDEO)[1]
    assert (step.status, step.lease_owner, step.attempt) == ("running", "another", 2)


@pytest.mark.parametrize("error", [Fenced(), MediaError("late"), StorageError("late")])
def test_a_failure_after_the_lease_was_lost_is_not_written(extracted: UUID, error: Exception) -> None:
    def act(_: Hold) -> None:
        with db.transaction() as session:
            expire_leases(session)
            steps.requeue_expired(session, settings().steps)
        raise error

    run_step(Stage.VIDEO, str(extracted), 0, act)
    assert seen(extracted, Stage.VIDEO)[1].status == "pending"


def test_a_fusion_that_breaks_fails_the_analysis(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        row = create_analysis(session)
        extract(session, row, build_manifest(faces=False, sound=False))
    run_step(Stage.FUSE, str(row.id), 0, raising(KeyError("score")))
    ended, step = seen(row.id, Stage.FUSE)
    assert (step.status, ended.status) == ("failed", "failed")
    assert ended.error is not None
    assert ended.error["code"] == "internal_error"
