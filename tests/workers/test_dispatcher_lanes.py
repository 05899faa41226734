"""The dispatcher and the lanes: who is rung for first, in which queue, and how much at a time."""

from __future__ import annotations

import base64
import json
from collections import Counter
from uuid import UUID

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from core import analyses, db, outbox, steps
from core.config import settings
from core.domain import BRANCHES, Lane, Stage, Terms
from core.queue import Queue, name_of
from tests.core.factories import age, build_manifest, claim_step, create_analysis, create_caller, extract
from tests.workers.test_dispatcher import messages, published, waiting
from workers import dispatcher, pipeline

STALE = settings().steps.republish_after.total_seconds() + 1


def submit(lane: Lane, count: int = 1) -> list[UUID]:
    """Accepted analyses of that lane, the oldest first."""
    with db.transaction() as session:
        caller = create_caller(session)
        return [create_analysis(session, caller, terms=Terms(lane=lane)).id for _ in range(count)]


def extracted(lane: Lane, shards: int = 2) -> UUID:
    """An analysis of that lane whose branches are owed."""
    (identity,) = submit(lane)
    with db.transaction() as session:
        extract(session, analyses.load(session, identity), build_manifest(shards=shards))
    return identity


def forget() -> None:
    """The broker comes back without its data."""
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        client.flushdb()


def get_old() -> None:
    with db.transaction() as session:
        age(session, STALE)


def rung_for(name: str) -> list[str]:
    """Analyses in that queue, in the order of the messages."""
    return [message["headers"]["argsrepr"].split("'")[1] for message in messages(name)]


@pytest.mark.parametrize("urgency", list(Lane))
def test_every_step_is_rung_for_in_a_queue_of_its_lane(ringing: Celery, urgency: Lane) -> None:
    assert ringing
    suffix = "" if urgency is Lane.STANDARD else f".{urgency.value}"
    (identity,) = submit(urgency)
    dispatcher.sweep()
    assert waiting() == {f"extraction{suffix}": 1}
    with db.transaction() as session:
        extract(session, analyses.load(session, identity), build_manifest(shards=2))
    dispatcher.sweep()
    assert waiting() == {f"extraction{suffix}": 1, f"video{suffix}": 2, f"audio{suffix}": 1}
    with db.transaction() as session:
        for stage, shard in ((Stage.VIDEO, 0), (Stage.VIDEO, 1), (Stage.AUDIO, 0)):
            steps.finish(session, claim_step(session, identity, stage, shard))
    get_old()
    dispatcher.sweep()
    assert waiting()[f"fusion{suffix}"] == 1


@pytest.mark.parametrize("urgency", list(Lane))
def test_the_body_of_a_chord_is_in_the_lane_of_its_header(ringing: Celery, urgency: Lane) -> None:
    assert ringing
    identity = extracted(urgency)
    dispatcher.sweep()
    for message in (*messages(name_of(Queue.VIDEO, urgency)), *messages(name_of(Queue.AUDIO, urgency))):
        assert message["headers"]["argsrepr"].startswith(f"('{identity}', ")
        assert message["headers"][pipeline.FORMAT_HEADER] == steps.FORMAT
        body = json.loads(base64.b64decode(message["body"]))[2]["chord"]
        assert body["options"]["queue"] == name_of(Queue.FUSION, urgency)
        assert body["options"]["headers"][pipeline.FORMAT_HEADER] == steps.FORMAT


def test_the_urgent_are_rung_for_before_what_came_earlier(ringing: Celery) -> None:
    assert ringing
    late = {lane: submit(lane, 3) for lane in reversed(Lane)}
    with db.transaction() as session:
        owed = [step.analysis_id for step in outbox.owed(session, settings().steps)]
    assert owed == [identity for lane in Lane for identity in late[lane]]


def test_a_batch_of_thousands_does_not_hold_back_an_interactive_one(ringing: Celery) -> None:
    assert ringing
    submit(Lane.BATCH, dispatcher.SOME * 2 + 1)
    assert dispatcher.sweep(), "there is more"
    (urgent,) = submit(Lane.INTERACTIVE)
    assert dispatcher.sweep()
    assert waiting() == {"extraction.interactive": 1, "extraction.batch": dispatcher.SOME * 2 - 1}
    assert rung_for("extraction.interactive") == [str(urgent)]
    assert not dispatcher.sweep(), "that was all"
    assert waiting() == {"extraction.interactive": 1, "extraction.batch": dispatcher.SOME * 2 + 1}


def test_a_chord_goes_out_whole_though_a_round_publishes_only_some(
    ringing: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ringing
    monkeypatch.setattr(dispatcher, "SOME", 1)
    identity = extracted(Lane.STANDARD, shards=4)
    dispatcher.sweep()
    assert waiting() == {"video": 4, "audio": 1}
    assert {name for name, sent in published(identity).items() if not sent} == {"extract-0"}
    groups = Counter(m["headers"]["group"] for name in ("video", "audio") for m in messages(name))
    assert list(groups.values()) == [5]


def test_a_long_queue_is_not_made_longer_whatever_its_length(ringing: Celery) -> None:
    """Also the newest of more than a round can publish is rung for, while all before it still wait."""
    assert ringing
    count = dispatcher.SOME + 20
    submit(Lane.BATCH, count)
    while dispatcher.sweep():
        pass
    get_old()
    (newest,) = submit(Lane.BATCH)
    assert not dispatcher.sweep()
    assert waiting() == {"extraction.batch": count + 1}
    assert rung_for("extraction.batch")[-1] == str(newest)


def test_messages_lost_in_one_lane_are_sent_again_while_another_waits(ringing: Celery) -> None:
    assert ringing
    submit(Lane.BATCH, 3)
    submit(Lane.INTERACTIVE, 2)
    dispatcher.sweep()
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        client.delete("deepdefend:extraction.interactive")
    get_old()
    dispatcher.sweep()
    assert waiting() == {"extraction.interactive": 2, "extraction.batch": 3}
    forget()
    get_old()
    dispatcher.sweep()
    assert waiting() == {"extraction.interactive": 2, "extraction.batch": 3}


def test_what_is_with_a_worker_is_not_counted_as_waiting(ringing: Celery) -> None:
    assert ringing
    first, second = submit(Lane.BATCH, 2)
    dispatcher.sweep()
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        client.rpop("deepdefend:extraction.batch")
    with db.transaction() as session:
        claim_step(session, first, Stage.EXTRACT)
    get_old()
    dispatcher.sweep()
    assert rung_for("extraction.batch") == [str(second)]


def test_a_dispatcher_publishes_what_was_never_sent_before_it_counts_what_was(ringing: Celery) -> None:
    """Branches that were sent one by one, after their chord was lost, count for themselves."""
    assert ringing
    identity = extracted(Lane.INTERACTIVE, shards=4)
    dispatcher.sweep()
    forget()
    get_old()
    dispatcher.sweep()
    assert waiting() == {"video.interactive": 4, "audio.interactive": 1}
    groups = {m["headers"]["group"] for m in messages("video.interactive")}
    assert groups == {None}
    with db.read() as session:
        branches = [s for s in steps.of_analysis(session, identity) if Stage(s.stage) in BRANCHES]
        assert outbox.unclaimed(session, "video", Lane.INTERACTIVE) == 4
        assert outbox.unclaimed(session, "video", Lane.BATCH) == 0
        assert len(branches) == 5


def test_two_dispatchers_and_the_owner_do_not_wait_for_each_other(ringing: Celery) -> None:
    """Postponing takes the rows that it can have: one that is being claimed is left alone."""
    assert ringing
    first, second = submit(Lane.BATCH, 2)
    dispatcher.sweep()
    get_old()
    with db.transaction() as claiming:
        claim_step(claiming, first, Stage.EXTRACT)
        with db.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '5s'"))
            outbox.postpone(session, settings().steps, "extract", Lane.BATCH)
    with db.transaction() as session:
        assert outbox.owed(session, settings().steps) == []
    assert published(second) == {"extract-0": True}
