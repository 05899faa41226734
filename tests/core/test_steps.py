"""Claim, beat, close, fence, requeue, owe: against real Postgres."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import analyses, db, outbox, steps
from core.config import settings
from core.domain import AnalysisStatus, Reason, Stage, StepStatus
from core.errors import DeepDefendError, Fenced
from core.models import Step
from tests.core.factories import (
    age,
    build_manifest,
    claim_step,
    create_analysis,
    expire_leases,
    extract,
)

CONFIG = settings().steps


def status_of(session: Session, claim: steps.Claim) -> Step:
    session.expire_all()
    return session.get_one(Step, claim.step_id)


def test_a_step_is_claimed_once(session: Session) -> None:
    analysis = create_analysis(session)
    claim = claim_step(session, analysis.id, Stage.EXTRACT)
    again = steps.claim(
        session, analysis_id=analysis.id, stage=Stage.EXTRACT, shard=0, owner="b", config=CONFIG
    )
    row = status_of(session, claim)
    assert again is None
    assert (row.status, row.attempt, row.lease_owner) == ("running", 1, "worker-a")
    assert row.started_at is not None


def test_of_many_claiming_at_once_one_wins(clean_database: str) -> None:
    with db.transaction() as session:
        analysis = create_analysis(session)
    won: list[str] = []
    barrier = threading.Barrier(8)

    def race(owner: str) -> None:
        barrier.wait()
        with db.transaction() as session:
            claim = steps.claim(
                session,
                analysis_id=analysis.id,
                stage=Stage.EXTRACT,
                shard=0,
                owner=owner,
                config=CONFIG,
            )
        if claim is not None:
            won.append(owner)

    threads = [threading.Thread(target=race, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clean_database
    assert len(won) == 1


def test_nothing_is_claimed_of_an_unknown_or_ended_analysis(session: Session) -> None:
    analysis = create_analysis(session)
    for identity in (uuid4(), analysis.id):
        analyses.fail(session, analysis.id, DeepDefendError("for the test"))
        claim = steps.claim(
            session, analysis_id=identity, stage=Stage.EXTRACT, shard=0, owner="a", config=CONFIG
        )
        assert claim is None


def test_finishing_closes_the_step_and_gives_the_lease_up(session: Session) -> None:
    claim = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    steps.finish(session, claim, detail={"frames": 3})
    row = status_of(session, claim)
    assert (row.status, row.lease_owner, row.lease_expires) == ("done", None, None)
    assert row.closed_at is not None
    assert row.detail == {"frames": 3}


def test_a_step_is_closed_only_by_a_closing_status(session: Session) -> None:
    claim = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    with pytest.raises(ValueError, match="does not close"):
        steps.finish(session, claim, status=StepStatus.PENDING)


@pytest.mark.parametrize("field", [{"owner": "worker-b"}, {"attempt": 2}])
def test_another_owner_or_attempt_is_fenced(session: Session, field: dict[str, object]) -> None:
    claim = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    stranger = claim.model_copy(update=field)
    with pytest.raises(Fenced):
        steps.finish(session, stranger)
    with pytest.raises(Fenced):
        steps.hand_back(session, stranger)
    assert steps.beat(session, [stranger], CONFIG) == set()
    assert status_of(session, claim).status == "running"


def test_closing_twice_is_fenced(session: Session) -> None:
    claim = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    steps.finish(session, claim)
    with pytest.raises(Fenced):
        steps.finish(session, claim)


def test_a_beat_extends_only_what_is_held(session: Session) -> None:
    held = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    lost = claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    expire_leases(session)
    steps.finish(session, lost)
    assert steps.beat(session, [held, lost], CONFIG) == {held.step_id}
    assert steps.beat(session, [], CONFIG) == set()
    expires = status_of(session, held).lease_expires
    assert expires is not None
    assert expires > session.scalar(select(func.now()))  # type: ignore[operator]


def test_a_dead_workers_step_goes_to_another(session: Session) -> None:
    analysis = create_analysis(session)
    first = claim_step(session, analysis.id, Stage.EXTRACT)
    expire_leases(session)
    assert steps.requeue_expired(session, CONFIG) == [analysis.id]
    second = claim_step(session, analysis.id, Stage.EXTRACT, owner="worker-b")
    assert second.attempt == 2
    with pytest.raises(Fenced):
        steps.finish(session, first)
    steps.finish(session, second)


def test_a_live_lease_is_left_alone(session: Session) -> None:
    claim_step(session, create_analysis(session).id, Stage.EXTRACT)
    assert steps.requeue_expired(session, CONFIG) == []


def test_after_the_last_attempt_the_step_has_failed(session: Session) -> None:
    analysis = create_analysis(session)
    for _ in range(CONFIG.max_attempts):
        claim = claim_step(session, analysis.id, Stage.EXTRACT)
        expire_leases(session)
        steps.requeue_expired(session, CONFIG)
    row = status_of(session, claim)
    assert (row.status, row.reason) == ("failed", Reason.WORKER_LOST.value)


def test_handing_back_costs_no_attempt(session: Session) -> None:
    analysis = create_analysis(session)
    claim = claim_step(session, analysis.id, Stage.EXTRACT)
    steps.hand_back(session, claim)
    assert claim_step(session, analysis.id, Stage.EXTRACT, owner="b").attempt == 1


def test_an_outage_is_tried_again_until_the_attempts_are_used_up(session: Session) -> None:
    analysis = create_analysis(session)
    for attempt in range(1, CONFIG.max_attempts + 1):
        claim = claim_step(session, analysis.id, Stage.EXTRACT)
        again = steps.retry_later(session, claim, "storage_unavailable", CONFIG)
        assert again is (attempt < CONFIG.max_attempts)
        assert outbox.owed(session, CONFIG) == []  # not at once: it counts as published just now
    row = status_of(session, claim)
    assert (row.status, row.reason) == ("failed", "storage_unavailable")


def test_a_long_outage_is_waited_for_longer(session: Session) -> None:
    analysis = create_analysis(session)
    pause = CONFIG.republish_after.total_seconds() + 1
    for waits in (1, 8):
        steps.retry_later(session, claim_step(session, analysis.id, Stage.EXTRACT), "away", CONFIG)
        for _ in range(waits):
            assert outbox.owed(session, CONFIG) == []
            age(session, pause)
        assert len(outbox.owed(session, CONFIG)) == 1


def test_an_outage_of_our_own_is_waited_out_ever_longer_until_the_deadline(session: Session) -> None:
    analysis = create_analysis(session)
    pause = CONFIG.republish_after.total_seconds() + 1
    for waits in (1, 2, 4, 8, 8, 8):
        claim = claim_step(session, analysis.id, Stage.EXTRACT)
        steps.wait_out(session, claim, "storage_unavailable", CONFIG)
        row = status_of(session, claim)
        assert (row.status, row.reason, row.attempt) == ("pending", "storage_unavailable", 0)
        for _ in range(waits):
            assert outbox.owed(session, CONFIG) == []
            age(session, pause)
        assert len(outbox.owed(session, CONFIG)) == 1


def test_one_that_lost_its_lease_waits_for_nothing(session: Session) -> None:
    analysis = create_analysis(session)
    claim = claim_step(session, analysis.id, Stage.EXTRACT)
    steps.hand_back(session, claim)
    with pytest.raises(Fenced):
        steps.wait_out(session, claim, "storage_unavailable", CONFIG)


def test_what_was_never_published_is_owed(session: Session) -> None:
    analysis = create_analysis(session)
    owed = outbox.owed(session, CONFIG)
    assert [(step.analysis_id, step.stage) for step in owed] == [(analysis.id, "extract")]
    outbox.mark_published(session, [owed[0].id])
    assert outbox.owed(session, CONFIG) == []


def test_what_nobody_claims_is_owed_again(session: Session) -> None:
    create_analysis(session)
    outbox.mark_published(session, [step.id for step in outbox.owed(session, CONFIG)])
    age(session, CONFIG.republish_after.total_seconds() + 1)
    assert len(outbox.owed(session, CONFIG)) == 1


def test_nothing_is_owed_of_an_ended_analysis(session: Session) -> None:
    analysis = create_analysis(session)
    analyses.transition(session, analysis.id, AnalysisStatus.CANCELED)
    assert outbox.owed(session, CONFIG) == []
    assert [step.status for step in steps.of_analysis(session, analysis.id)] == ["skipped"]


def test_the_owed_are_locked_against_a_second_dispatcher(clean_database: str) -> None:
    with db.transaction() as session:
        create_analysis(session)
    with db.transaction() as one, db.transaction() as other:
        assert clean_database
        assert len(outbox.owed(one, CONFIG)) == 1
        assert outbox.owed(other, CONFIG) == []


def test_fusion_waits_for_every_branch(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(shards=2))
    stages = [step.stage for step in outbox.owed(session, CONFIG)]
    assert sorted(stages) == ["audio", "video", "video"]

    def fuse() -> steps.Claim | None:
        return steps.claim(
            session, analysis_id=analysis.id, stage=Stage.FUSE, shard=0, owner="f", config=CONFIG
        )

    for stage, shard in ((Stage.VIDEO, 0), (Stage.VIDEO, 1), (Stage.AUDIO, 0)):
        assert fuse() is None
        steps.finish(session, claim_step(session, analysis.id, stage, shard))
    assert fuse() is not None


def test_fusion_is_owed_when_the_chord_stays_silent(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    fusion = outbox.waiting_fusion(session, analysis.id)
    assert fusion is not None
    outbox.mark_published(session, [fusion.id])  # as the body of a chord
    steps.finish(session, claim_step(session, analysis.id, Stage.VIDEO))
    steps.finish(session, claim_step(session, analysis.id, Stage.AUDIO))
    assert outbox.waiting_fusion(session, analysis.id) is None
    assert outbox.owed(session, CONFIG) == []  # the chord may still ring
    age(session, CONFIG.chord_grace.total_seconds() + 1)
    assert [step.stage for step in outbox.owed(session, CONFIG)] == ["fuse"]


def test_without_branches_fusion_is_owed_at_once(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(faces=False, sound=False))
    assert [step.stage for step in outbox.owed(session, CONFIG)] == ["fuse"]


def test_steps_come_in_the_order_of_the_pipeline(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(shards=2))
    rows = [(step.stage, step.shard) for step in steps.of_analysis(session, analysis.id)]
    assert rows == [("extract", 0), ("video", 0), ("video", 1), ("audio", 0), ("fuse", 0)]


def test_owing_rings_the_dispatcher_with_the_commit(clean_database: str) -> None:
    listener = db.engine().raw_connection()
    try:
        connection = listener.driver_connection
        assert connection is not None
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {steps.CHANNEL}")
        with db.transaction() as session:
            create_analysis(session)
            connection.poll()
            assert connection.notifies == []  # nothing before the commit
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert clean_database
        assert [note.channel for note in connection.notifies] == [steps.CHANNEL]
    finally:
        listener.invalidate()
        listener.close()


def test_leases_are_as_long_as_configured(session: Session) -> None:
    config = CONFIG.model_copy(update={"lease": timedelta(seconds=90)})
    analysis = create_analysis(session)
    claim = steps.claim(
        session, analysis_id=analysis.id, stage=Stage.EXTRACT, shard=0, owner="a", config=config
    )
    assert claim is not None
    left = status_of(session, claim).lease_expires - session.scalar(select(func.now()))  # type: ignore[operator]
    assert left == timedelta(seconds=90)
