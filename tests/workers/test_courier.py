"""The dispatcher's part in webhooks, on a real broker and database: what is due is rung for once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
import redis
from celery import Celery
from sqlalchemy import text

from cli.stack.servers import ValkeyServer
from core import db
from core.config import settings
from core.models import WebhookEndpoint
from core.queue import Queue, Task
from core.webhooks import deliveries, endpoints
from tests.core.webhooks.factories import (
    attempts_of,
    backdate,
    create_endpoint,
    deliveries_of,
    ended,
    make_due,
    outcome,
    owed,
)
from tests.workers.test_dispatcher import messages
from workers import courier, dispatcher
from workers.app import app

EVENTS = Queue.WEBHOOKS


def rung_for() -> list[str]:
    return [message["headers"]["argsrepr"] for message in messages(EVENTS)]


def empty_broker() -> None:
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        client.flushdb()


@pytest.fixture
def delivery(ringing: Celery) -> UUID:
    """One delivery that is owed."""
    assert ringing
    with db.transaction() as session:
        return owed(session, create_endpoint(session)[0]).id


def test_the_end_of_an_analysis_is_rung_for_by_the_dispatcher(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        create_endpoint(session)
        ended(session)
        (row,) = deliveries_of(session)
    dispatcher.sweep()
    dispatcher.sweep()
    assert rung_for() == [f"('{row.id}',)"]
    assert messages(EVENTS)[0]["headers"]["task"] == "deepdefend.deliver"


def test_the_task_is_known_and_stores_no_result(ringing: Celery) -> None:
    ringing.loader.import_default_modules()
    assert app.tasks[Task.DELIVER.value].ignore_result


def test_what_is_not_due_is_not_rung_for(delivery: UUID) -> None:
    with db.transaction() as session:
        backdate(session, "next_attempt_at", -timedelta(minutes=5))
    courier.sweep()
    assert rung_for() == []
    with db.transaction() as session:
        make_due(session)
    courier.sweep()
    assert rung_for() == [f"('{delivery}',)"]


def test_killed_between_the_message_and_its_mark_it_rings_twice_under_one_id(delivery: UUID) -> None:
    courier.sweep()
    with db.transaction() as session:
        session.execute(text("UPDATE webhook_deliveries SET published_at = NULL"))
    courier.sweep()
    ids = Counter(message["headers"]["id"] for message in messages(EVENTS))
    assert list(ids.values()) == [2]
    with db.transaction() as session:
        assert deliveries.claim(session, delivery, owner="a") is not None
        assert deliveries.claim(session, delivery, owner="b") is None


def test_a_lost_message_is_sent_again_and_a_waiting_one_is_not(delivery: UUID) -> None:
    courier.sweep()
    for _ in range(2):
        with db.transaction() as session:
            backdate(session, "published_at", timedelta(minutes=1))
        courier.sweep()
        assert rung_for() == [f"('{delivery}',)"]
    empty_broker()  # it came back without its data
    with db.transaction() as session:
        backdate(session, "published_at", timedelta(minutes=1))
    courier.sweep()
    assert rung_for() == [f"('{delivery}',)"]


def test_what_a_dead_worker_was_sending_is_rung_for_again(delivery: UUID) -> None:
    courier.sweep()
    empty_broker()  # taken by the worker
    with db.transaction() as session:
        deliveries.claim(session, delivery, owner="dead")
        backdate(session, "lease_expires", timedelta(minutes=1))
    courier.sweep()
    assert rung_for() == [f"('{delivery}',)"]
    with db.read() as session:
        assert [attempt.error for attempt in attempts_of(session, delivery)] == ["worker_lost"]


def test_without_a_broker_it_stays_owed(delivery: UUID, own_broker: ValkeyServer) -> None:
    own_broker.stop()
    with pytest.raises(dispatcher.BROKER_ERRORS):
        courier.sweep()
    with db.read() as session:
        (row,) = deliveries_of(session, id=delivery)
        assert (row.status, row.published_at) == ("owed", None)
    own_broker.start()
    courier.sweep()
    assert rung_for() == [f"('{delivery}',)"]


def test_a_backlog_is_rung_for_by_and_by(ringing: Celery) -> None:
    assert ringing
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        for _ in range(5):
            owed(session, endpoint)
    seen = 0
    for _ in range(5):
        courier.sweep()
        seen += len(messages(EVENTS))
        empty_broker()
        finish_all()
    assert seen == 5


def finish_all() -> None:
    """As if a worker had taken and told everything that was rung for."""
    with db.transaction() as session:
        for row in deliveries_of(session, status="owed"):
            claim = row.published_at and deliveries.claim(session, row.id, owner="a")
            if claim:
                deliveries.close(session, claim, outcome(200))


def test_a_full_round_is_followed_by_another(delivery: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "SOME", 1)
    assert delivery
    assert courier.sweep() is True
    assert courier.sweep() is False


def test_it_tidies_up(delivery: UUID) -> None:
    with db.transaction() as session:
        (row,) = deliveries_of(session, id=delivery)
        endpoints.rotate(session, "alice", row.endpoint_id)
        backdate(session, "former_secret_until", timedelta(days=2), "webhook_endpoints")
        session.execute(text("UPDATE webhook_deliveries SET status = 'failed', closed_at = now()"))
        backdate(session, "closed_at", timedelta(days=31))
        # An id of then: 48 bits of milliseconds come first.
        session.execute(text("UPDATE webhook_deliveries SET id = '00000000-0000-7000-8000-000000000000'"))
    courier.sweep()
    with db.read() as session:
        assert deliveries_of(session) == []
        assert session.get_one(WebhookEndpoint, row.endpoint_id).former_secret is None
