"""An analysis ends at its deadline wherever it is, and whoever has it in hand lets go."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import text

from core import analyses, db, steps
from core.config import settings
from core.domain import Stage, StepStatus, Terms, Variant
from core.models import Analysis
from tests.core.factories import build_manifest, claim_step, create_analysis, extract
from tests.core.test_stability import judged_once, near_its_end
from tests.workers.test_cancel import heart, store, stored
from tests.workers.test_dispatcher import waiting
from workers import dispatcher, leftovers
from workers.base import run_step
from workers.heart import Heart, Hold
from workers.tasks import artifacts

__all__ = ["heart"]  # a fixture
LONGEST = settings().deadline.total_seconds()


def submitted(seconds: int | None = 10) -> UUID:
    with db.transaction() as session:
        return create_analysis(session, terms=Terms(deadline_seconds=seconds)).id


def pass_deadline(identity: UUID) -> None:
    """As if the time had gone by."""
    with db.transaction() as session:
        session.execute(
            text("UPDATE analyses SET deadline = now() - interval '1 ms' WHERE id = :id"), {"id": identity}
        )


def ended(identity: UUID) -> Analysis:
    with db.read() as session:
        return analyses.load(session, identity)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(10, 10), (3600, 3600), (None, LONGEST), (int(LONGEST) + 1, LONGEST), (10**30, LONGEST)],
)
def test_the_submitter_may_shorten_what_the_server_allows(
    clean_database: str, asked: int | None, granted: float
) -> None:
    assert clean_database
    row = ended(submitted(asked))
    assert (row.deadline - row.created_at).total_seconds() == granted


def test_what_nobody_has_touched_ends(ringing: Celery) -> None:
    assert ringing
    early, late = submitted(), submitted(None)
    dispatcher.sweep()
    pass_deadline(early)
    dispatcher.sweep()
    assert (ended(early).status, ended(late).status) == ("failed", "queued")
    problem = ended(early).error
    assert problem is not None
    assert problem["code"] == "deadline_exceeded"
    assert waiting() == {"extraction": 2}, "its message is refused by the claim"
    with db.transaction() as session:
        claim = steps.claim(
            session, analysis_id=early, stage=Stage.EXTRACT, shard=0, owner="a", config=settings().steps
        )
    assert claim is None


def test_what_waits_between_two_steps_ends(ringing: Celery) -> None:
    assert ringing
    identity = submitted()
    with db.transaction() as session:
        extract(session, analyses.load(session, identity), build_manifest())
        claim_step(session, identity, Stage.AUDIO)
    pass_deadline(identity)
    dispatcher.sweep()
    with db.read() as session:
        statuses = {step.stage: step.status for step in steps.of_analysis(session, identity)}
    assert statuses.pop("extract") == StepStatus.DONE
    assert set(statuses.values()) == {StepStatus.SKIPPED}
    assert waiting() == {}


def test_a_worker_that_has_it_in_hand_lets_go(ringing: Celery, bucket: str, heart: Heart) -> None:
    """Between two beats, as a cancellation does: the beat of this heart comes once an hour."""
    assert ringing
    assert bucket
    identity = submitted()
    fenced = threading.Event()

    def act(hold: Hold) -> None:
        store(artifacts.scratch(hold.claim) + "crops-0.npy")
        pass_deadline(identity)
        dispatcher.sweep()
        assert hold.lost.wait(60)
        fenced.set()
        hold.check()
        pytest.fail("the checkpoint let it pass")

    assert heart.is_alive()
    run_step(Stage.EXTRACT, str(identity), 0, act)
    assert fenced.is_set()
    assert ended(identity).status == "failed"
    assert stored(identity) == [], "what it had stored goes with it"
    assert leftovers.folder(identity)


def test_what_has_ended_in_time_stays_as_it_ended(ringing: Celery) -> None:
    assert ringing
    identity = submitted()
    with db.transaction() as session:
        analyses.cancel(session, analyses.load(session, identity).owner, identity)
    pass_deadline(identity)
    dispatcher.sweep()
    assert ended(identity).status == "canceled"


def test_variants_give_way_to_the_second_fusion(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = judged_once(session)
        claim_step(session, analysis.id, Stage.STABILITY, 3)
    dispatcher.sweep()
    assert waiting() == {"video.batch": len(Variant) - 1}
    with db.transaction() as session:
        near_its_end(session, analysis, 60)
    dispatcher.sweep()
    assert waiting() == {"video.batch": len(Variant) - 1, "fusion": 1}
    assert ended(analysis.id).completed_at is None
