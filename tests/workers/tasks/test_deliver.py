"""One try against a real server on the loopback, verified by the public library of Standard Webhooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from sqlalchemy import delete, func, select
from standardwebhooks import WebhookVerificationError

from core import db
from core.config import settings
from core.models import Analysis, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.webhooks import deliveries, endpoints, history, outbox
from tests.core.webhooks.conftest import set_webhooks as set_webhooks  # noqa: PLC0414 - the fixture
from tests.core.webhooks.factories import (
    attempts_of,
    backdate,
    create_endpoint,
    deliveries_of,
    ended,
    make_due,
)
from tests.core.webhooks.receiver import Answer, Receiver, receiving
from workers import outbound, process
from workers.tasks.deliver import deliver, deliver_event, send

SetWebhooks = Callable[..., None]


@pytest.fixture
def receiver(clean_database: str, set_webhooks: SetWebhooks) -> Iterator[Receiver]:
    """A receiver that the settings allow to be called."""
    assert clean_database
    with receiving() as found:
        set_webhooks(allowed_networks='["127.0.0.0/8"]', allowed_ports=f"[{found.port}]")
        yield found


class Told:
    """An endpoint at the receiver and an event that is owed to it."""

    def __init__(self, receiver: Receiver) -> None:
        with db.transaction() as session:
            self.endpoint, self.secret = create_endpoint(session, url=receiver.url)
            self.analysis = ended(session, metadata_={"ticket": "ä"})
            (self.delivery,) = deliveries_of(session)

    def tries(self, *, now: bool = True) -> WebhookDelivery:
        """One more try, at once."""
        if now:
            with db.transaction() as session:
                make_due(session)
        deliver(self.delivery.id)
        return self.row()

    def row(self) -> WebhookDelivery:
        with db.read() as session:
            (row,) = deliveries_of(session, id=self.delivery.id)
            return row

    def attempts(self) -> list[WebhookAttempt]:
        with db.read() as session:
            return attempts_of(session, self.delivery.id)

    def at(self) -> WebhookEndpoint:
        with db.read() as session:
            return endpoints.find(session, "alice", self.endpoint.id)


@pytest.fixture
def told(receiver: Receiver) -> Told:
    return Told(receiver)


def test_what_arrives_verifies_and_is_what_is_stored(receiver: Receiver, told: Told) -> None:
    assert told.tries().status == "delivered"
    (call,) = receiver.calls
    event = call.verified(told.secret)
    assert event["type"] == "analysis.failed"
    assert event["data"]["metadata"] == {"ticket": "ä"}
    assert call.body.decode() == told.delivery.body
    assert call.event_id == told.delivery.event_id
    assert call.headers["content-type"] == "application/json"
    assert call.headers["user-agent"].startswith("DeepDefend/")
    assert call.path == "/hook"
    (attempt,) = told.attempts()
    assert (attempt.status, attempt.answer, attempt.error) == (200, "thanks", None)
    deliver(told.delivery.id)  # the message came twice
    assert len(receiver.calls) == 1


def test_across_a_rotation_both_secrets_verify_and_then_the_new_one_alone(
    receiver: Receiver, told: Told
) -> None:
    with db.transaction() as session:
        _, new = endpoints.rotate(session, "alice", told.endpoint.id)
    told.tries()
    assert receiver.calls[0].verified(told.secret) == receiver.calls[0].verified(new)
    with db.transaction() as session:
        backdate(session, "former_secret_until", timedelta(hours=25), "webhook_endpoints")
        history.redeliver(session, "alice", told.endpoint.id, told.delivery.id)
    told.tries()
    assert receiver.calls[1].verified(new)["type"] == "analysis.failed"
    with pytest.raises(WebhookVerificationError):
        receiver.calls[1].verified(told.secret)


def test_tries_have_one_id_one_body_and_their_own_time(receiver: Receiver, told: Told) -> None:
    receiver.answers = [Answer(500), Answer(503), Answer(200)]
    assert [told.tries().status for _ in range(3)] == ["owed", "owed", "delivered"]
    assert {call.event_id for call in receiver.calls} == {told.delivery.event_id}
    assert {call.body for call in receiver.calls} == {told.delivery.body.encode()}
    assert all(call.verified(told.secret) for call in receiver.calls)
    assert [attempt.status for attempt in told.attempts()] == [500, 503, 200]
    assert told.at().failing_since is None


@pytest.mark.parametrize(
    "value", ["600", format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)]
)
def test_retry_after_puts_the_next_try_off(receiver: Receiver, told: Told, value: str) -> None:
    receiver.answers = [Answer(429, headers={"Retry-After": value})]
    row = told.tries()
    with db.read() as session:
        wait = row.next_attempt_at - session.scalars(select(func.now())).one()
    assert wait > timedelta(minutes=9)


def test_410_disables(receiver: Receiver, told: Told) -> None:
    receiver.answers = [Answer(410)]
    assert told.tries().status == "failed"
    assert told.at().disabled_reason == "gone"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_a_failure_and_is_not_followed(receiver: Receiver, told: Told, status: int) -> None:
    receiver.answers = [Answer(status, headers={"Location": receiver.url + "/elsewhere"})]
    assert told.tries().status == "owed"
    assert [call.path for call in receiver.calls] == ["/hook"]
    assert told.attempts()[0].status == status


def test_a_receiver_that_says_nothing_is_left_in_time(
    receiver: Receiver, told: Told, set_webhooks: SetWebhooks
) -> None:
    set_webhooks(timeout="PT0.3S")
    silence = threading.Event()
    receiver.answers = [Answer(after=silence)]
    try:
        assert told.tries().status == "owed"
    finally:
        silence.set()
    assert (told.attempts()[0].status, told.attempts()[0].error) == (None, "timed_out")


def test_a_huge_answer_is_read_as_far_as_it_is_kept(receiver: Receiver, told: Told) -> None:
    receiver.answers = [Answer(200, body=b"x" * 50_000_000)]
    assert told.tries().status == "delivered"
    assert told.attempts()[0].answer == "x" * 2048


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"\x00\xff", "\ufffd\ufffd"),
        ("ü".encode("latin-1"), "\ufffd"),
        (b"", ""),
        (b"\xed\xa0\x80", "\ufffd" * 3),
    ],
)
def test_any_bytes_can_be_answered(receiver: Receiver, told: Told, body: bytes, kept: str) -> None:
    receiver.answers = [Answer(200, body=body)]
    told.tries()
    assert told.attempts()[0].answer == kept


def test_an_answer_cut_in_the_middle_of_a_letter_is_kept(receiver: Receiver, told: Told) -> None:
    receiver.answers = [Answer(500, body=b"x" + "ü".encode() * 2000)]
    told.tries()
    assert told.attempts()[0].answer == "x" + "ü" * 1023 + "\ufffd"


def test_nobody_there_is_a_failure(told: Told, set_webhooks: SetWebhooks) -> None:
    with db.transaction() as session:
        endpoints.change(session, "alice", told.endpoint.id, url=told.endpoint.url)
    set_webhooks(allowed_ports="[1]", allowed_networks='["127.0.0.0/8"]')
    with db.transaction() as session:
        endpoints.change(session, "alice", told.endpoint.id, url="http://127.0.0.1:1/")
    assert told.tries().status == "owed"
    assert told.attempts()[0].error == "connect_failed"


def test_an_address_that_must_not_be_called_any_more_is_not(
    receiver: Receiver, told: Told, set_webhooks: SetWebhooks
) -> None:
    set_webhooks(allowed_networks="[]")
    assert told.tries().status == "owed"  # it may be a name server's lapse: tried again, never dialled
    assert told.attempts()[0].error == "unsafe_url"
    assert receiver.calls == []


def test_a_secret_that_cannot_be_read_signs_nothing(receiver: Receiver, told: Told) -> None:
    with db.transaction() as session:
        session.get_one(WebhookEndpoint, told.endpoint.id).secret = b"damaged"
    assert told.tries().status == "owed"
    assert told.attempts()[0].error == "secret_unreadable"
    assert receiver.calls == []


def test_killed_between_the_sending_and_its_row_it_is_sent_again(receiver: Receiver, told: Told) -> None:
    with db.transaction() as session:
        make_due(session)
        claim = deliveries.claim(session, told.delivery.id, owner="dead")
    assert claim is not None
    assert send(claim, settings().webhooks).status == 200  # and here the process dies
    with db.transaction() as session:
        backdate(session, "lease_expires", timedelta(minutes=5))
        deliveries.requeue_lost(session)
    assert told.tries(now=False).status == "delivered"
    first, second = receiver.calls
    assert first.event_id == second.event_id
    assert first.verified(told.secret) == second.verified(told.secret)
    assert [attempt.error for attempt in told.attempts()] == ["worker_lost", None]


def test_what_is_deleted_while_it_is_sent_is_not_tried_again(receiver: Receiver, told: Told) -> None:
    go_on = threading.Event()
    receiver.answers = [Answer(500, after=go_on)]
    sender = threading.Thread(target=deliver, args=[told.delivery.id])
    sender.start()
    assert receiver.asked.wait(20)
    with db.transaction() as session:
        session.execute(delete(Analysis).where(Analysis.id == told.analysis.id))
    go_on.set()
    sender.join(20)
    deliver(told.delivery.id)
    assert len(receiver.calls) == 1
    with db.read() as session:
        assert deliveries_of(session) == []


def more(count: int) -> list[WebhookDelivery]:
    """Events that are owed after the first, none of them rung for."""
    with db.transaction() as session:
        for _ in range(count):
            ended(session)
        return deliveries_of(session)[1:]


def statuses() -> list[str]:
    with db.read() as session:
        return [row.status for row in deliveries_of(session)]


def test_one_message_empties_a_backlog_in_the_order_it_was_owed(receiver: Receiver, told: Told) -> None:
    rest = more(4)
    deliver(told.delivery.id)
    assert [call.event_id for call in receiver.calls] == [
        told.delivery.event_id,
        *(row.event_id for row in rest),
    ]
    assert statuses() == ["delivered"] * 5


def test_a_failure_ends_the_run(receiver: Receiver, told: Told) -> None:
    more(3)
    receiver.answers = [Answer(200), Answer(500)]
    deliver(told.delivery.id)
    assert statuses() == ["delivered", "owed", "owed", "owed"]
    assert len(receiver.calls) == 2


def test_a_run_leaves_to_others_what_is_with_the_broker_and_what_is_anothers(
    receiver: Receiver, told: Told
) -> None:
    rung_for, sent, _ = more(3)
    with db.transaction() as session:
        outbox.mark_published(session, [rung_for])
        assert deliveries.claim(session, sent.id, owner="another")
        other, _ = create_endpoint(session, owner="bob", url=receiver.url)
        ended(session, owner="bob")
    deliver(told.delivery.id)
    assert statuses() == ["delivered", "owed", "sending", "delivered", "owed"]
    assert other.owner == "bob"


def test_a_run_ends_in_time(receiver: Receiver, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    more(3)
    monkeypatch.setattr("workers.tasks.deliver.RUN_SECONDS", 0.0)
    deliver(told.delivery.id)
    assert len(receiver.calls) == 1


def test_while_a_run_goes_on_its_place_is_taken(receiver: Receiver, told: Told) -> None:
    more(6)
    taken: list[int] = []

    def look() -> Answer:
        with db.read() as session:
            taken.extend(count for _, _, count in session.execute(outbox.in_flight_query()))
        return Answer()

    receiver.next_answer = look  # type: ignore[method-assign]
    deliver(told.delivery.id)
    assert taken == [1] * 7


def test_a_process_that_is_to_end_takes_nothing_on(receiver: Receiver, told: Told) -> None:
    process.this_process().heart.leaving = True
    try:
        deliver_event(str(told.delivery.id))
    finally:
        process.this_process.cache_clear()
    assert receiver.calls == []
    assert told.row().status == "owed"
    deliver_event(str(told.delivery.id))
    assert len(receiver.calls) == 1


def test_a_database_that_is_away_after_the_sending_leaves_it_to_the_lease(
    receiver: Receiver, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post_and_lock(url: str, **options: object) -> outbound.Reply:
        reply = post(url, **options)  # type: ignore[arg-type]
        monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        forget_database()
        return reply

    post = outbound.post
    monkeypatch.setattr(outbound, "post", post_and_lock)
    try:
        deliver(told.delivery.id)
    finally:
        monkeypatch.undo()
        forget_database()
    assert len(receiver.calls) == 1
    assert told.row().status == "sending"


def forget_database() -> None:
    settings.cache_clear()
    db.engine.cache_clear()
