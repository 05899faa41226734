"""The dispatcher's chores: done again until they are done, whatever is away, and none ends the others."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import analyses, audit, db, retention, steps
from core.domain import Stage
from core.errors import StorageError
from core.keys import Caller
from core.models import Analysis, AuditEntry, Erasure
from core.storage import S3Storage
from tests.conftest import point_settings
from tests.core.eraser import (
    away,
    empty_bucket,
    ended,
    extracted,
    file_of,
    held,
    let_pass,
    load,
    objects,
    scratch,
    submitted,
)
from tests.core.factories import claim_step, create_caller
from workers import housekeeping, leftovers
from workers.base import run_step
from workers.heart import Hold
from workers.housekeeping import Chore, Housekeeper
from workers.tasks.fuse import judge_evidence

NEVER = threading.Event()


@pytest.fixture
def caller(clean_database: str, bucket: str) -> Caller:
    """The owner of everything, beside an empty database and an empty bucket."""
    assert clean_database
    assert bucket
    empty_bucket()
    with db.transaction() as session:
        return create_caller(session, "newsroom")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two rounds."""
    monkeypatch.setattr(housekeeping, "PAUSE", timedelta(milliseconds=1))
    monkeypatch.setattr(housekeeping, "OUTAGE_PAUSE", timedelta(milliseconds=1))


def receipts() -> list[AuditEntry]:
    with db.read() as session:
        actions = [audit.Action.MEDIA_ERASED.value, audit.Action.ANALYSIS_ERASED.value]
        query = select(AuditEntry).where(AuditEntry.action.in_(actions)).order_by(AuditEntry.at)
        return list(session.scalars(query))


def owed() -> list[UUID]:
    with db.read() as session:
        return list(session.scalars(select(Erasure.id)))


def test_what_is_due_goes_and_what_is_not_stays(caller: Caller) -> None:
    due, fresh = ended(submitted(caller, retention_hours=0)), ended(submitted(caller, retention_hours=1))
    kept = file_of(fresh).object_key
    assert not housekeeping.erase_due(NEVER)
    assert objects() == sorted([kept, *objects(analyses.folder(fresh))])
    assert (load(due).media_erased_at is None, load(fresh).media_erased_at is None) == (False, True)
    (entry,) = receipts()
    assert (entry.actor, entry.subject, entry.action) == ("dispatcher", str(due), "media.erased")
    assert not housekeeping.erase_due(NEVER)
    assert len(receipts()) == 1, "once"


def test_whole_analyses_go_when_the_settings_say_so(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (ended(submitted(caller), end) for end in ("completed", "failed", "canceled"))
    held(caller, second)
    let_pass("48 hours", "completed_at")
    young, living = ended(submitted(caller)), submitted(caller)
    housekeeping.erase_due(NEVER)
    assert receipts() == []
    monkeypatch.setenv("DEEPDEFEND_RETENTION__ANALYSES", "P1D")
    point_settings()
    housekeeping.erase_due(NEVER)
    monkeypatch.undo()
    point_settings()
    with db.read() as session:
        assert set(session.scalars(select(Analysis.id))) == {second, living, young}
    assert {entry.subject for entry in receipts()} == {str(first), str(third)}
    assert {entry.actor for entry in receipts()} == {"dispatcher"}


def test_what_a_killed_process_had_condemned_is_carried_out(caller: Caller) -> None:
    deleted, erased = ended(submitted(caller)), ended(submitted(caller, retention_hours=0))
    with db.transaction() as session:
        retention.condemn_analysis(session, deleted, actor=caller.key_id)
        retention.condemn_media(session, erased, actor=audit.WORKER)
    housekeeping.erase_due(NEVER)
    assert len(objects()) == 6, "whoever condemned it has its own time"
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET due_at = now()"))
    housekeeping.erase_due(NEVER)
    assert (objects(), owed()) == ([], [])
    assert {(entry.action, entry.actor) for entry in receipts()} == {
        ("analysis.erased", caller.key_id),
        ("media.erased", audit.WORKER),
    }


def test_more_than_a_round_takes_is_taken_in_rounds(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    identities = [ended(submitted(caller, retention_hours=0), "failed") for _ in range(5)]
    rounds = 1
    while housekeeping.erase_due(NEVER):
        rounds += 1
    assert rounds == 3
    assert {entry.subject for entry in receipts()} == {str(identity) for identity in identities}
    assert objects() == []


def test_a_storage_that_is_away_puts_everything_off(caller: Caller) -> None:
    identity = ended(submitted(caller, retention_hours=0))
    with away(), pytest.raises(StorageError):
        housekeeping.erase_due(NEVER)
    assert load(identity).media_erased_at is None
    assert len(owed()) == 1
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET due_at = now()"))
    housekeeping.erase_due(NEVER)
    assert objects() == []


def test_one_that_the_storage_refuses_does_not_hold_up_the_others(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object lock, say: S3 answers, and says no."""
    locked = ended(submitted(caller, retention_hours=0))
    let_pass("1 second", "media_until")
    free = ended(submitted(caller, retention_hours=0))
    key, real = file_of(locked).object_key, S3Storage.delete_all

    def refuse(self: S3Storage, keys: Iterable[str]) -> None:
        wanted = list(keys)
        if key in wanted:
            raise StorageError("delete: AccessDenied")
        real(self, wanted)

    monkeypatch.setattr(S3Storage, "delete_all", refuse)
    housekeeping.erase_due(NEVER)
    assert load(free).media_erased_at is not None
    assert load(locked).media_erased_at is None
    with db.read() as session:
        assert session.scalars(select(Erasure.due_at > func.now())).all() == [True]


def test_asked_to_stop_it_begins_nothing_more(caller: Caller) -> None:
    ended(submitted(caller, retention_hours=0))
    stopped = threading.Event()
    stopped.set()
    assert not housekeeping.erase_due(stopped)
    assert owed() == []


def test_a_deletion_that_comes_first_is_no_fault(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the lock its owner deletes one and holds another."""
    gone, kept = ended(submitted(caller)), ended(submitted(caller))
    let_pass("48 hours", "completed_at")
    monkeypatch.setenv("DEEPDEFEND_RETENTION__ANALYSES", "P1D")
    point_settings()
    real = retention.condemn_analysis

    def late(session: Session, analysis_id: UUID, **words: Any) -> UUID:
        with db.transaction() as other:
            real(other, gone, actor=caller.key_id) if analysis_id == gone else retention.hold(
                other, caller, kept, reason="case 7"
            )
        return real(session, analysis_id, **words)

    monkeypatch.setattr(retention, "condemn_analysis", late)
    housekeeping.erase_due(NEVER)
    monkeypatch.undo()
    point_settings()
    with db.read() as session:
        assert list(session.scalars(select(Analysis.id))) == [kept]


@pytest.mark.usefixtures("impatient")
def test_the_thread_does_every_chore_and_stops_when_asked(caller: Caller) -> None:
    assert caller
    stopping, done = threading.Event(), threading.Semaphore(0)

    def act(event: threading.Event) -> bool:
        assert event is stopping
        done.release()
        return False

    keeper = Housekeeper(stopping, [Chore(name, act, timedelta(0)) for name in "ab"])
    keeper.start()
    for _ in range(6):
        assert done.acquire(timeout=30)
    stopping.set()
    keeper.join(30)
    assert not keeper.is_alive()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault", [StorageError("away"), OperationalError("x", {}, Exception()), ZeroDivisionError()]
)
def test_a_chore_that_fails_ends_neither_the_others_nor_itself(fault: Exception) -> None:
    stopping, tried, done = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def fail(_: threading.Event) -> bool:
        tried.release()
        raise fault

    def act(_: threading.Event) -> bool:
        done.release()
        return False

    keeper = Housekeeper(stopping, [Chore("bad", fail, timedelta(0)), Chore("good", act, timedelta(0))])
    keeper.start()
    for _ in range(3):
        assert tried.acquire(timeout=30)
        assert done.acquire(timeout=30)
    stopping.set()
    keeper.join(30)
    assert not keeper.is_alive()


def test_a_chore_with_more_to_do_comes_soon_again_and_another_when_it_is_time() -> None:
    keeper = Housekeeper(threading.Event(), [])
    hour = timedelta(hours=1)
    assert keeper._do(Chore("more", lambda _: True, hour)) == housekeeping.PAUSE
    assert keeper._do(Chore("done", lambda _: False, hour)) == hour


def test_all_chores_are_there_and_can_be_done(caller: Caller) -> None:
    assert caller
    names = [chore.name for chore in housekeeping.chores()]
    assert names == ["erasures", "leftovers", "uploads", "orphans", "parts"]
    keeper = Housekeeper(threading.Event())
    assert [keeper._do(chore) == chore.every for chore in housekeeping.chores()] == [True] * 5


@pytest.mark.usefixtures("impatient")
def test_the_dispatchers_thread_outlives_the_storage(caller: Caller) -> None:
    """What ended while the storage was away goes when it is back: the file, and what a worker left."""
    erased = ended(submitted(caller, retention_hours=0))
    canceled = submitted(caller)
    scratch(canceled)
    ended(canceled, "canceled")
    let_pass("1 minute", "completed_at")
    kept = file_of(canceled).object_key
    stopping = threading.Event()
    keeper = Housekeeper(
        stopping,
        [
            Chore("erasures", housekeeping.erase_due, timedelta(0)),
            Chore("leftovers", housekeeping._clear_leftovers, timedelta(0)),
        ],
    )
    with away():
        leftovers.remove_if_unwanted(canceled)  # raises nothing
        keeper.start()
        while not owed():
            keeper.join(0.05)
    while objects() != [kept]:
        with db.transaction() as session:
            session.execute(text("UPDATE erasures SET due_at = now()"))
        keeper.join(0.05)
    stopping.set()
    keeper.join(60)
    assert not keeper.is_alive()
    assert load(erased).media_erased_at is not None


def test_a_worker_that_had_not_noticed_the_deletion_clears_up_after_itself(caller: Caller) -> None:
    identity = submitted(caller)

    def act(hold: Hold) -> None:
        scratch(identity)
        with db.transaction() as session:
            erasure = retention.condemn_analysis(session, identity, actor=caller.key_id)
        assert not retention.carry_out(erasure)
        assert objects() == []
        scratch(identity, "work-1-late")
        with db.transaction() as session:
            steps.finish(session, hold.claim)

    run_step(Stage.EXTRACT, str(identity), 0, act)
    assert objects() == []
    assert len(owed()) == 1, "and the dispatcher looks once more"


def test_an_extraction_that_lost_its_lease_leaves_nothing_where_all_was_erased(caller: Caller) -> None:
    identity = submitted(caller, retention_hours=0)

    def act(hold: Hold) -> None:
        with db.transaction() as session:
            analyses.touch(session, identity)
            steps.hand_back(session, hold.claim)  # as if its lease had run out
        ended(identity)
        retention.erase_media_if_due(identity)
        assert objects() == []
        scratch(identity, "pictures-1-late")
        with db.transaction() as session:
            steps.finish(session, hold.claim)

    run_step(Stage.EXTRACT, str(identity), 0, act)
    assert load(identity).status == "completed"
    assert objects() == []


def judged(caller: Caller, hours: int) -> UUID:
    """An analysis that the fusion task has just completed; the storage may be away by then."""
    identity = submitted(caller, retention_hours=hours)
    extracted(identity)
    with db.transaction() as session:
        steps.finish(session, claim_step(session, identity, Stage.VIDEO))
        hold = Hold(claim_step(session, identity, Stage.FUSE))
    judge_evidence(hold)
    return identity


def test_with_zero_retention_the_fusion_task_leaves_nothing(caller: Caller) -> None:
    identity = judged(caller, 0)
    row = load(identity)
    assert (row.status, row.media_erased_at is not None) == ("completed", True)
    assert row.report is not None
    assert objects() == []
    kept = judged(caller, 1)
    assert load(kept).media_erased_at is None
    assert len(objects()) == 2, "the file and a picture"


def test_what_it_cannot_delete_the_dispatcher_does(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: S3Storage, keys: Iterable[str]) -> None:
        raise StorageError(f"delete {next(iter(keys), None)}: SlowDown")

    monkeypatch.setattr(S3Storage, "delete_all", refuse)
    identity = judged(caller, 0)
    monkeypatch.undo()
    assert (load(identity).status, load(identity).media_erased_at) == ("completed", None)
    assert len(objects()) == 3
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET due_at = now()"))
    housekeeping.erase_due(NEVER)
    assert load(identity).media_erased_at is not None
    assert objects() == []
