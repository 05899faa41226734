"""Leases are kept alive while work goes on, and their loss reaches the work."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select, text

from core import analyses, db, fleet, steps
from core.config import settings
from core.domain import AnalysisStatus, Stage
from core.errors import Fenced
from core.models import Step
from tests.core.factories import claim_step, create_analysis, expire_leases
from workers.heart import Heart


class Beaten:
    """A heart whose announcements are counted."""

    def __init__(self) -> None:
        self.announced = threading.Event()
        self.heart = Heart("boot-1", settings().steps, announce=self.announce)

    def announce(self) -> None:
        with db.transaction() as session:
            fleet.announce(session, boot_id="boot-1", queues=["video"], version="1")
        self.announced.set()


@pytest.fixture
def claim(clean_database: str) -> steps.Claim:
    assert clean_database
    with db.transaction() as session:
        analysis = create_analysis(session)
        return claim_step(session, analysis.id, Stage.EXTRACT, owner="boot-1")


def lease_is_alive(claim: steps.Claim) -> bool:
    with db.read() as session:
        query = select(Step.lease_expires > func.now()).where(Step.id == claim.step_id)
        return bool(session.scalar(query))


def test_a_beat_keeps_the_lease_of_what_is_held(claim: steps.Claim) -> None:
    heart = Beaten().heart
    with db.transaction() as session:
        expire_leases(session)
    with heart.hold(claim) as hold:
        heart.beat()
        hold.check()
        assert lease_is_alive(claim)
    with db.transaction() as session:
        expire_leases(session)
    heart.beat()  # no longer held: left to expire
    assert not lease_is_alive(claim)


def test_a_lost_lease_stops_the_work_at_its_next_checkpoint(claim: steps.Claim) -> None:
    heart = Beaten().heart
    with heart.hold(claim) as hold:
        with db.transaction() as session:
            analyses.transition(session, claim.analysis_id, AnalysisStatus.CANCELED)
        hold.check()  # not yet known
        heart.beat()
        with pytest.raises(Fenced):
            hold.check()


def test_a_process_that_was_forgotten_announces_itself_again(claim: steps.Claim) -> None:
    assert claim
    beaten = Beaten()
    beaten.heart.beat()
    assert beaten.announced.is_set()
    beaten.announced.clear()
    beaten.heart.beat()
    assert not beaten.announced.is_set()


def test_the_thread_beats_and_outlives_a_failing_database(claim: steps.Claim) -> None:
    config = settings().steps.model_copy(update={"heartbeat": settings().steps.heartbeat / 200})
    beaten = Beaten()
    beaten.heart = Heart("boot-1", config, announce=beaten.announce)
    with db.transaction() as session:
        session.execute(text("ALTER TABLE worker_processes RENAME TO elsewhere"))
    beaten.heart.start()
    with beaten.heart.hold(claim) as hold:
        assert not beaten.announced.wait(0.3)
        with db.transaction() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO worker_processes"))
        assert beaten.announced.wait(30)  # the first beat that went through
        hold.check()
    beaten.heart.stop()
    beaten.heart.join(30)
    assert not beaten.heart.is_alive()


def test_what_is_handed_back_goes_to_another_without_using_up_an_attempt(claim: steps.Claim) -> None:
    heart = Beaten().heart
    with heart.hold(claim) as hold:
        heart.hand_back()
        with pytest.raises(Fenced):
            hold.check()
        heart.hand_back()  # already given: nothing more to do
    with db.transaction() as session:
        again = claim_step(session, claim.analysis_id, Stage.EXTRACT, owner="boot-2")
        with pytest.raises(Fenced):
            steps.finish(session, claim)
    assert again.attempt == claim.attempt == 1


def test_asked_to_let_go_the_thread_hands_back_also_what_comes_late(claim: steps.Claim) -> None:
    beaten = Beaten()
    beaten.heart.start()
    assert beaten.announced.wait(30)
    beaten.heart.let_go()
    with beaten.heart.hold(claim) as hold:
        assert hold.lost.wait(30)
    beaten.heart.stop()
    beaten.heart.join(30)
    with db.read() as session:
        assert session.get_one(Step, claim.step_id).status == "pending"


def test_nothing_stops_the_heart(claim: steps.Claim) -> None:
    config = settings().steps.model_copy(update={"heartbeat": settings().steps.heartbeat / 200})
    tries: list[None] = []
    again = threading.Event()

    def announce() -> None:
        tries.append(None)
        if len(tries) > 1:
            again.set()
        raise OSError("the model folder is unreadable")

    heart = Heart("boot-1", config, announce=announce)
    heart.start()
    assert again.wait(30)
    assert heart.is_alive()
    heart.stop()
    heart.join(30)
    assert claim
