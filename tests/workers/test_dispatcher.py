"""The dispatcher against real Postgres and Valkey: what is owed is published, what is lost is healed."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from cli.stack.servers import ValkeyServer
from core import analyses, db, outbox, steps
from core.config import settings
from core.domain import AnalysisStatus, Lane, Stage, StepStatus, Terms
from core.models import Step
from core.queue import Queue, names_of
from tests.conftest import point_settings
from tests.core.factories import (
    age,
    build_manifest,
    claim_step,
    create_analysis,
    expire_leases,
    extract,
)
from tests.core.test_locks import in_a_thread
from workers import dispatcher, pipeline


def messages(queue: str) -> list[dict[str, Any]]:
    """What waits in a queue, oldest first, left where it is."""
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        return [json.loads(raw) for raw in reversed(client.lrange(f"deepdefend:{queue}", 0, -1))]


def waiting() -> dict[str, int]:
    return {name: count for name in names_of() if (count := len(messages(name)))}


def published(analysis_id: UUID) -> dict[str, bool]:
    with db.read() as session:
        rows = steps.of_analysis(session, analysis_id)
        return {f"{row.stage}-{row.shard}": row.published_at is not None for row in rows}


@pytest.fixture
def extracted(ringing: Celery) -> UUID:
    """An analysis whose extraction found two shards of faces and one of sound."""
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
        extract(session, analysis, build_manifest(shards=2))
    return analysis.id


def test_a_new_analysis_is_rung_for_once(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
    dispatcher.sweep()
    dispatcher.sweep()
    assert waiting() == {"extraction": 1}
    assert published(analysis.id) == {"extract-0": True}


def test_messages_carry_ids_and_nothing_else(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
    dispatcher.sweep()
    message = messages(Queue.EXTRACTION)[0]
    assert message["headers"]["task"] == "deepdefend.extract"
    assert message["headers"]["argsrepr"] == f"('{analysis.id}', 0)"
    assert message["content-type"] == "application/json"


def test_branches_go_out_as_one_chord_with_fusion_as_its_body(extracted: UUID) -> None:
    dispatcher.sweep()
    assert waiting() == {"video": 2, "audio": 1}
    assert published(extracted) == {
        "extract-0": False,
        "video-0": True,
        "video-1": True,
        "audio-0": True,
        "fuse-0": True,
    }
    groups = {m["headers"]["group"] for queue in (Queue.VIDEO, Queue.AUDIO) for m in messages(queue)}
    assert len(groups) == 1


def test_a_message_sent_twice_has_the_same_id(extracted: UUID) -> None:
    dispatcher.sweep()
    with db.transaction() as session:
        session.execute(text("UPDATE steps SET published_at = NULL"))  # died between sending and marking
    dispatcher.sweep()
    ids = Counter(message["headers"]["id"] for message in messages(Queue.VIDEO))
    assert sorted(ids.values()) == [2, 2]
    assert published(extracted)["video-0"]


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(extracted: UUID) -> None:
    dispatcher.sweep()
    long_ago = settings().steps.republish_after.total_seconds() + 1
    with db.transaction() as session:
        age(session, long_ago)
    dispatcher.sweep()
    assert waiting() == {"video": 2, "audio": 1}  # all still there: a long queue is not a loss
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        client.flushdb()  # a broker that came back without its data
    with db.transaction() as session:
        age(session, long_ago)
    dispatcher.sweep()
    assert waiting() == {"video": 2, "audio": 1}
    assert published(extracted)["video-1"]


def test_when_the_chord_stays_silent_fusion_is_rung_for_directly(extracted: UUID) -> None:
    dispatcher.sweep()
    with db.transaction() as session:
        for stage, shard in ((Stage.VIDEO, 0), (Stage.VIDEO, 1), (Stage.AUDIO, 0)):
            steps.finish(session, claim_step(session, extracted, stage, shard))
    dispatcher.sweep()
    assert "fusion" not in waiting()
    with db.transaction() as session:
        age(session, settings().steps.chord_grace.total_seconds() + 1)
    dispatcher.sweep()
    dispatcher.sweep()
    assert waiting()["fusion"] == 1


def test_a_long_queue_of_fusions_is_not_made_longer(extracted: UUID) -> None:
    dispatcher.sweep()
    with db.transaction() as session:
        for stage, shard in ((Stage.VIDEO, 0), (Stage.VIDEO, 1), (Stage.AUDIO, 0)):
            steps.finish(session, claim_step(session, extracted, stage, shard))
    for _ in range(5):
        with db.transaction() as session:
            age(session, settings().steps.chord_grace.total_seconds() + 1)
        dispatcher.sweep()
    assert waiting()["fusion"] == 1


def test_a_dead_workers_step_is_sent_again(extracted: UUID) -> None:
    dispatcher.sweep()
    with db.transaction() as session:
        claim_step(session, extracted, Stage.VIDEO, 0)
        expire_leases(session)
    dispatcher.sweep()
    assert waiting() == {"video": 3, "audio": 1}


def test_a_branch_lost_for_good_lets_fusion_judge_the_rest(extracted: UUID) -> None:
    with db.transaction() as session:
        steps.finish(session, claim_step(session, extracted, Stage.VIDEO, 1))
        steps.finish(session, claim_step(session, extracted, Stage.AUDIO, 0))
        for _ in range(settings().steps.max_attempts):
            claim_step(session, extracted, Stage.VIDEO, 0)
            expire_leases(session)
            steps.requeue_expired(session, settings().steps)
    dispatcher.sweep()
    assert waiting() == {"fusion": 1}
    with db.read() as session:
        assert analyses.load(session, extracted).status == AnalysisStatus.PROCESSING


def test_an_extraction_lost_for_good_fails_the_analysis(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
        for _ in range(settings().steps.max_attempts):
            claim_step(session, analysis.id, Stage.EXTRACT)
            expire_leases(session)
            steps.requeue_expired(session, settings().steps)
    dispatcher.sweep()
    with db.read() as session:
        ended = analyses.load(session, analysis.id)
    assert (ended.status, ended.error and ended.error["code"]) == ("failed", "worker_lost")
    assert waiting() == {}


def test_deadlines_are_kept(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
        session.execute(text("UPDATE analyses SET deadline = now() - interval '1 second'"))
    dispatcher.sweep()
    with db.read() as session:
        assert analyses.load(session, analysis.id).status == AnalysisStatus.FAILED
    assert waiting() == {}


def test_nothing_is_marked_while_the_broker_is_away(own_broker: ValkeyServer, extracted: UUID) -> None:
    own_broker.stop()
    with pytest.raises(dispatcher.BROKER_ERRORS):
        dispatcher.sweep()
    assert set(published(extracted).values()) == {False}
    own_broker.start()
    dispatcher.sweep()
    assert published(extracted)["fuse-0"]
    assert waiting() == {"video": 2, "audio": 1}


def test_thousands_that_are_late_hold_back_nobody(ringing: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ringing
    monkeypatch.setattr(dispatcher, "SOME", 2)
    with db.transaction() as session:
        late = [create_analysis(session).id for _ in range(3)]
        session.execute(text("UPDATE analyses SET deadline = now() - interval '1 minute'"))
        urgent = create_analysis(session, terms=Terms(lane=Lane.INTERACTIVE))
    assert dispatcher.sweep(), "there is more"
    with db.read() as session:
        statuses = [analyses.load(session, identity).status for identity in late]
    assert sorted(statuses) == ["failed", "failed", "queued"]
    assert published(urgent.id) == {"extract-0": True}
    dispatcher.sweep()
    with db.read() as session:
        assert {analyses.load(session, identity).status for identity in late} == {"failed"}


@contextmanager
def at_the_broker(monkeypatch: pytest.MonkeyPatch, asking: str) -> Iterator[None]:
    """A dispatcher publishes, and the block runs while the broker keeps its `pipeline.<asking>` waiting."""
    answer, entered, answered = getattr(pipeline, asking), threading.Event(), threading.Event()

    def hanging(*what: Any) -> Any:
        entered.set()
        assert answered.wait(60)
        return answer(*what)

    monkeypatch.setattr(pipeline, asking, hanging)
    thread = threading.Thread(target=dispatcher.publish_owed)
    thread.start()
    try:
        assert entered.wait(60)
        yield
    finally:
        answered.set()
        thread.join(60)
    assert not thread.is_alive()


def impatiently(session: Session) -> Session:
    session.execute(text("SET LOCAL lock_timeout = '2s'"))
    return session


def test_a_cancellation_does_not_wait_for_the_broker(
    ringing: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
    with at_the_broker(monkeypatch, "send"), db.transaction() as session:
        analyses.cancel(impatiently(session), analysis.owner, analysis.id)
    assert published(analysis.id) == {"extract-0": False}


def test_a_cancellation_does_not_wait_for_a_chord(extracted: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    with db.read() as session:
        owner = analyses.load(session, extracted).owner
    with at_the_broker(monkeypatch, "send_chord"), db.transaction() as session:
        analyses.cancel(impatiently(session), owner, extracted)
    assert set(published(extracted).values()) == {False}


def test_what_a_worker_did_before_the_mark_stays(ringing: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """It claimed, and an outage put the next try off by minutes: the mark must not bring it forward."""
    assert ringing
    with db.transaction() as session:
        analysis = create_analysis(session)
        session.execute(text("UPDATE steps SET attempt = 1"))
    with at_the_broker(monkeypatch, "send"), db.transaction() as session:
        claim = claim_step(impatiently(session), analysis.id, Stage.EXTRACT)
        assert steps.retry_later(session, claim, "storage_unavailable", settings().steps)
    with db.read() as session:
        (row,) = steps.of_analysis(session, analysis.id)
        assert row.published_at is not None
        assert session.scalar(select(row.published_at > func.now() + settings().steps.republish_after))


def test_marking_a_chord_and_canceling_it_do_not_wait_for_each_other(extracted: UUID) -> None:
    with db.read() as session:
        owner, rows = analyses.load(session, extracted).owner, steps.of_analysis(session, extracted)
    with db.transaction() as session:
        last = select(Step).where(Step.id == rows[-1].id).with_for_update()
        session.scalars(last).one()
        with in_a_thread(lambda other: outbox.mark_published(other, [row.id for row in rows])) as raised:
            analyses.cancel(session, owner, extracted)
            session.commit()
    assert raised == []


def test_a_queue_that_never_was_holds_nothing(ringing: Celery) -> None:
    assert ringing
    assert pipeline.waiting("webhooks") == 0


def test_the_running_dispatcher_wakes_for_new_work_and_stops_when_asked(ringing: Celery) -> None:
    """No poll is waited for: the poll is set to an hour, so only the NOTIFY can have woken it."""
    assert ringing
    point_settings(DEEPDEFEND_STEPS__POLL="PT1H")
    running = dispatcher.Dispatcher()
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
            for _ in range(2):
                with db.transaction() as session:
                    create_analysis(session)
                assert client.brpop(["deepdefend:extraction"], timeout=30) is not None
    finally:
        running.stop()
        with db.transaction() as session:
            steps.ring(session)
        thread.join(timeout=30)
        point_settings(DEEPDEFEND_STEPS__POLL="PT1S")
    assert not thread.is_alive()


def test_a_second_dispatcher_waits_for_the_first(ringing: Celery) -> None:
    assert ringing
    held = db.lock_connection(dispatcher.DISPATCHER_LOCK)
    assert held is not None
    second = dispatcher.Dispatcher()
    second._stopping.set()
    second._lead()
    held.close()
    with db.transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": dispatcher.DISPATCHER_LOCK})


def test_every_terminal_step_of_a_finished_round_is_left_alone(extracted: UUID) -> None:
    with db.transaction() as session:
        claim = claim_step(session, extracted, Stage.AUDIO)
        steps.finish(session, claim, status=StepStatus.SKIPPED, reason="no_detector_weights")
    dispatcher.sweep()
    assert waiting() == {"video": 2}
