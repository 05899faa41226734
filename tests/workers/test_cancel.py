"""A cancellation reaches the work in hand, and what the work had stored goes with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import analyses, db, retention, steps
from core.domain import Reason, Stage, StepStatus
from core.errors import Fenced
from core.keys import Caller
from core.models import Interval
from core.storage import storage
from tests.core.factories import build_manifest, claim_step, create_analysis, create_caller, extract
from workers import leftovers
from workers.base import run_step
from workers.heart import Heart, Hold
from workers.process import this_process
from workers.tasks import artifacts
from workers.tasks.fuse import judge_evidence


@pytest.fixture
def analysis(clean_database: str, bucket: str) -> UUID:
    assert clean_database
    assert bucket
    with db.transaction() as session:
        return create_analysis(session).id


@pytest.fixture
def heart() -> Iterator[Heart]:
    """The beating heart of this process, which beats so rarely that no beat can tell."""
    this_process.cache_clear()
    state = this_process()
    state.heart._config = state.heart._config.model_copy(update={"heartbeat": state.heart._config.hard_limit})
    state.heart.start()
    yield state.heart
    state.heart.stop()
    state.heart.join(30)
    this_process.cache_clear()


def cancel(analysis_id: UUID) -> None:
    with db.transaction() as session:
        analyses.cancel(session, analyses.load(session, analysis_id).owner, analysis_id)


def settle(analysis_id: UUID) -> None:
    with db.transaction() as session:
        session.execute(
            text("UPDATE analyses SET completed_at = now() - interval '1 minute' WHERE id = :id"),
            {"id": analysis_id},
        )


def store(key: str) -> None:
    upload = storage().open_upload(key)
    upload.write(b"crops")
    upload.complete()


def stored(analysis_id: UUID) -> list[str]:
    return list(storage().keys(leftovers.folder(analysis_id)))


def test_a_step_in_hand_is_lost_between_two_beats(analysis: UUID, heart: Heart) -> None:
    seen = threading.Event()

    def act(hold: Hold) -> None:
        hold.check()
        cancel(analysis)
        assert hold.lost.wait(60)
        seen.set()
        hold.check()
        pytest.fail("the checkpoint let it pass")

    assert heart.is_alive()
    run_step(Stage.EXTRACT, str(analysis), 0, act)
    assert seen.is_set()


def test_a_look_survives_the_loss_of_its_connections(analysis: UUID, heart: Heart) -> None:
    assert heart.is_alive()
    with db.transaction() as session:
        claim = claim_step(session, analysis, Stage.EXTRACT)
    with heart.hold(claim) as hold:
        with db.transaction() as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        cancel(analysis)
        assert hold.lost.wait(60)
        with pytest.raises(Fenced):
            hold.check()


def test_what_a_canceled_step_had_stored_goes_and_the_media_stays(analysis: UUID) -> None:
    with db.read() as session:
        media = analyses.load(session, analysis).file.object_key
    store(media)

    def act(hold: Hold) -> None:
        store(artifacts.scratch(hold.claim) + "crops-0.npy")
        store(artifacts.pictures(hold.claim) + "track-0.jpg")
        cancel(analysis)
        with db.transaction() as session:
            steps.finish(session, hold.claim)

    run_step(Stage.EXTRACT, str(analysis), 0, act)
    assert stored(analysis) == []
    assert storage().read(media) == b"crops"


def test_what_another_worker_took_over_is_left_alone(analysis: UUID) -> None:
    def act(hold: Hold) -> None:
        store(artifacts.scratch(hold.claim) + "crops-0.npy")
        with db.transaction() as session:
            steps.hand_back(session, hold.claim)
        hold.lose()
        hold.check()

    run_step(Stage.EXTRACT, str(analysis), 0, act)
    assert len(stored(analysis)) == 1


def test_a_step_that_breaks_on_what_is_gone_clears_up_too(analysis: UUID) -> None:
    def act(hold: Hold) -> None:
        store(artifacts.scratch(hold.claim) + "crops-0.npy")
        cancel(analysis)
        raise ValueError("no such crops")

    run_step(Stage.EXTRACT, str(analysis), 0, act)
    assert stored(analysis) == []


def test_uploading_stops_at_the_next_file(tmp_path: Path, analysis: UUID) -> None:
    def stop() -> None:
        raise Fenced

    with db.transaction() as session:
        claim = claim_step(session, analysis, Stage.EXTRACT)
    with pytest.raises(Fenced):
        artifacts.publish(storage(), claim, tmp_path, build_manifest(), checkpoint=stop)
    assert stored(analysis) == []


def test_a_fusion_that_lost_its_lease_writes_nothing(analysis: UUID) -> None:
    with db.transaction() as session:
        extract(session, analyses.load(session, analysis), build_manifest(sound=False))
        claim = claim_step(session, analysis, Stage.VIDEO)
        steps.finish(session, claim, status=StepStatus.FAILED, reason=Reason.WORKER_LOST.value)
        late = Hold(claim_step(session, analysis, Stage.FUSE))
    cancel(analysis)
    with db.read() as session:
        before = analyses.load(session, analysis).version
    with pytest.raises(Fenced):
        judge_evidence(late)
    with db.read() as session:
        reasons = session.scalars(select(Interval.video_reason).where(Interval.analysis_id == analysis))
        assert set(reasons) == {Reason.NOT_ANALYZED.value}
        assert analyses.load(session, analysis).version == before


def test_the_dispatcher_clears_what_lay_between_two_steps(analysis: UUID) -> None:
    store(leftovers.folder(analysis) + "work-1-x/crops-0.npy")
    cancel(analysis)
    leftovers.sweep()
    assert len(stored(analysis)) == 1, "a worker may still be writing"
    settle(analysis)
    leftovers.sweep()
    assert stored(analysis) == []
    store(leftovers.folder(analysis) + "after")
    leftovers.sweep()
    assert len(stored(analysis)) == 1, "it is not looked for again"


def test_a_hold_that_comes_while_others_are_cleared_keeps_what_is_there(
    clean_database: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was made before the hold, and a slow storage may take minutes for what comes first in it."""
    assert clean_database
    assert bucket
    with db.transaction() as session:
        caller = create_caller(session)
        first, second = (create_analysis(session, caller).id for _ in range(2))
    for identity in (first, second):
        store(leftovers.folder(identity) + "pictures-1-x/track-0.jpg")
        cancel(identity)
        settle(identity)
    delete_prefix = storage().delete_prefix

    def hold_the_other(prefix: str) -> int:
        held = second if prefix == leftovers.folder(first) else first
        if not storage_was_slow:
            storage_was_slow.append(held)
            _hold(caller, held)
        return delete_prefix(prefix)

    storage_was_slow: list[UUID] = []
    monkeypatch.setattr(storage(), "delete_prefix", hold_the_other)
    leftovers.sweep()
    (held,) = storage_was_slow
    assert len(stored(held)) == 1
    assert stored(first if held == second else second) == []


def _hold(caller: Caller, analysis_id: UUID) -> None:
    with db.transaction() as session:
        retention.hold(session, caller, analysis_id, reason="a court asks")
