"""A delivery: claimed once, written down by its holder alone, tried again or given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core import analyses, db
from core.config import settings
from core.errors import DeepDefendError, Fenced
from core.models import Analysis, WebhookDelivery, WebhookEndpoint
from core.webhooks import deliveries, endpoints, events, schedule, secrets
from core.webhooks.deliveries import Claim
from core.webhooks.domain import DeliveryStatus, Disabled, EventType
from tests.core.factories import create_analysis, create_caller
from tests.core.webhooks.factories import (
    ALL,
    attempts_of,
    backdate,
    create_endpoint,
    deliveries_of,
    make_due,
    outcome,
    owed,
)


def claimed(session: Session, row: WebhookDelivery, owner: str = "worker-a") -> Claim:
    found = deliveries.claim(session, row.id, owner=owner)
    assert found is not None
    return found


def fresh(session: Session, row: WebhookDelivery) -> WebhookDelivery:
    session.flush()
    session.refresh(row)
    return row


@pytest.fixture
def endpoint(session: Session) -> WebhookEndpoint:
    return create_endpoint(session)[0]


@pytest.fixture
def row(session: Session, endpoint: WebhookEndpoint) -> WebhookDelivery:
    return owed(session, endpoint)


def test_one_process_claims_it(session: Session, row: WebhookDelivery) -> None:
    claim = claimed(session, row)
    assert (claim.attempt, claim.tries, claim.url, claim.body) == (1, 1, row.url, row.body)
    assert deliveries.claim(session, row.id, owner="worker-b") is None
    found = fresh(session, row)
    assert (found.status, found.lease_owner) == ("sending", "worker-a")
    now = session.scalars(select(func.now())).one()
    assert found.lease_expires is not None
    assert found.lease_expires - now > settings().webhooks.timeout
    assert found.published_at is not None  # in flight, also when the mark of the publication was lost


def test_what_is_not_there_or_not_due_is_not_claimed(session: Session, row: WebhookDelivery) -> None:
    assert deliveries.claim(session, uuid4(), owner="a") is None
    row.next_attempt_at = session.scalars(select(func.now())).one() + timedelta(minutes=1)
    session.flush()
    assert deliveries.claim(session, row.id, owner="a") is None
    make_due(session)
    claimed(session, row)


def test_a_disabled_endpoint_is_told_nothing_more(
    session: Session, endpoint: WebhookEndpoint, row: WebhookDelivery
) -> None:
    endpoint.disabled_at = session.scalars(select(func.now())).one()  # between its being owed and now
    session.flush()
    assert deliveries.claim(session, row.id, owner="a") is None
    assert fresh(session, row).status == "dropped"


def test_both_secrets_sign_until_the_overlap_ends(session: Session, endpoint: WebhookEndpoint) -> None:
    old = secrets.unseal(endpoint.secret)
    _, new = endpoints.rotate(session, "alice", endpoint.id)
    signers = [secrets.unseal(sealed) for sealed in claimed(session, owed(session, endpoint)).sealed]
    assert signers == [new, old]
    backdate(session, "former_secret_until", timedelta(hours=25), "webhook_endpoints")
    session.expire_all()
    signers = [secrets.unseal(sealed) for sealed in claimed(session, owed(session, endpoint)).sealed]
    assert signers == [new]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_told(session: Session, row: WebhookDelivery, status: int) -> None:
    done = deliveries.close(session, claimed(session, row), outcome(status, answer="ok"))
    found = fresh(session, row)
    assert done == found.status == "delivered"
    assert found.closed_at is not None
    assert found.lease_owner is None
    (attempt,) = attempts_of(session, row.id)
    assert (attempt.number, attempt.status, attempt.answer, attempt.milliseconds) == (1, status, "ok", 12)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 502, 503])
def test_everything_else_is_tried_again(session: Session, row: WebhookDelivery, status: int) -> None:
    deliveries.close(session, claimed(session, row), outcome(status))
    found = fresh(session, row)
    assert (found.status, found.published_at, found.closed_at) == ("owed", None, None)
    now = session.scalars(select(func.now())).one()
    assert timedelta(seconds=4) < found.next_attempt_at - now < timedelta(seconds=60)


def test_no_answer_is_tried_again_with_its_reason(session: Session, row: WebhookDelivery) -> None:
    deliveries.close(session, claimed(session, row), outcome(None, error="timed_out"))
    (attempt,) = attempts_of(session, row.id)
    assert (attempt.status, attempt.error) == (None, "timed_out")
    assert fresh(session, row).status == "owed"


def test_after_ten_tries_it_has_failed(session: Session, row: WebhookDelivery) -> None:
    for number in range(1, len(schedule.DELAYS) + 1):
        claim = claimed(session, row)
        assert claim.attempt == claim.tries == number
        deliveries.close(session, claim, outcome())
        make_due(session)
    found = fresh(session, row)
    assert (found.status, found.attempt) == ("failed", 10)
    assert [attempt.number for attempt in attempts_of(session, row.id)] == list(range(1, 11))
    assert {claim.event_id, found.event_id} == {row.event_id}


def test_retry_after_is_honoured(session: Session, row: WebhookDelivery) -> None:
    deliveries.close(session, claimed(session, row), outcome(429, retry_after=timedelta(minutes=7)))
    wait = fresh(session, row).next_attempt_at - session.scalars(select(func.now())).one()
    assert timedelta(minutes=7) <= wait < timedelta(minutes=9)


def test_gone_ends_it_and_disables_the_endpoint(session: Session, endpoint: WebhookEndpoint) -> None:
    row, waiting = owed(session, endpoint), owed(session, endpoint)
    deliveries.close(session, claimed(session, row), outcome(410))
    assert (fresh(session, row).status, fresh(session, waiting).status) == ("failed", "dropped")
    session.refresh(endpoint)
    assert endpoint.disabled_reason == "gone"


def test_an_endpoint_that_only_fails_for_five_days_is_disabled(
    session: Session, endpoint: WebhookEndpoint
) -> None:
    first, second = owed(session, endpoint), owed(session, endpoint)
    deliveries.close(session, claimed(session, first), outcome())
    session.refresh(endpoint)
    assert endpoint.failing_since is not None
    assert endpoint.disabled_at is None
    backdate(session, "failing_since", timedelta(days=5, seconds=1), "webhook_endpoints")
    session.expire_all()
    deliveries.close(session, claimed(session, second), outcome())
    session.refresh(endpoint)
    assert endpoint.disabled_reason == "failing"
    assert fresh(session, first).status == "dropped"


def test_one_success_ends_a_time_of_failures(session: Session, endpoint: WebhookEndpoint) -> None:
    deliveries.close(session, claimed(session, owed(session, endpoint)), outcome())
    deliveries.close(session, claimed(session, owed(session, endpoint)), outcome(200))
    session.refresh(endpoint)
    assert endpoint.failing_since is None


@pytest.mark.parametrize("status", [410, 500])
def test_the_endpoint_of_many_addresses_is_not_disabled_for_one(session: Session, status: int) -> None:
    endpoint, _ = create_endpoint(session, url=None)
    row = owed(session, endpoint, url="https://example.net/one")
    deliveries.close(session, claimed(session, row), outcome(status))
    session.refresh(endpoint)
    assert (endpoint.disabled_at, endpoint.failing_since) == (None, None)
    assert fresh(session, row).status == ("failed" if status == 410 else "owed")


def test_a_failure_of_an_endpoint_disabled_meanwhile_is_not_tried_again(
    session: Session, endpoint: WebhookEndpoint, row: WebhookDelivery
) -> None:
    claim = claimed(session, row)
    endpoints.disable(session, endpoint, Disabled.BY_OWNER)
    assert deliveries.close(session, claim, outcome()) is DeliveryStatus.DROPPED


def test_a_test_event_is_tried_once(session: Session, endpoint: WebhookEndpoint) -> None:
    row = owed(session, endpoint)
    row.event_type = "webhook.test"
    session.flush()
    assert deliveries.close(session, claimed(session, row), outcome()) is DeliveryStatus.FAILED


@pytest.mark.parametrize("overtaken_by", ["the end", "later progress", "nothing"])
def test_progress_is_not_tried_again_when_it_is_old_news(session: Session, overtaken_by: str) -> None:
    create_endpoint(session, events=ALL)
    analysis = create_analysis(session, create_caller(session, "alice"))
    events._owe(session, events._facts(session, analysis.id), EventType.PROGRESS, stage="extract")
    (row,) = deliveries_of(session)
    claim = claimed(session, row)
    if overtaken_by == "the end":
        analyses.fail(session, analysis.id, DeepDefendError("x"))
    if overtaken_by == "later progress":
        events._owe(session, events._facts(session, analysis.id), EventType.PROGRESS, stage="video")
    status = deliveries.close(session, claim, outcome())
    assert status == ("owed" if overtaken_by == "nothing" else "dropped")


def test_who_lost_the_lease_writes_nothing(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        row = owed(session, endpoint)
        slow = claimed(session, row, "slow")
    with db.transaction() as session:
        backdate(session, "lease_expires", timedelta(hours=1))
        assert deliveries.requeue_lost(session) == [row.id]
        claimed(session, row, "quick")
    for late in (200, 410, 500):
        with pytest.raises(Fenced), db.transaction() as session:
            deliveries.close(session, slow, outcome(late))
    with db.read() as session:
        (found,) = deliveries_of(session)
        assert (found.lease_owner, found.attempt) == ("quick", 2)
        assert [attempt.error for attempt in attempts_of(session, row.id)] == ["worker_lost"]
        assert session.get_one(WebhookEndpoint, endpoint.id).disabled_at is None


def test_what_a_dead_process_was_sending_is_owed_under_the_same_id(
    session: Session, row: WebhookDelivery
) -> None:
    first = claimed(session, row)
    assert deliveries.requeue_lost(session) == []  # it lives
    backdate(session, "lease_expires", timedelta(minutes=5))
    assert deliveries.requeue_lost(session) == [row.id]
    assert fresh(session, row).published_at is None
    second = claimed(session, row, "worker-b")
    assert (second.event_id, second.body) == (first.event_id, first.body)
    assert (first.attempt, second.attempt) == (1, 2)


def test_a_delivery_that_kills_its_sender_each_time_comes_to_an_end(
    session: Session, row: WebhookDelivery
) -> None:
    for _ in schedule.DELAYS:
        claimed(session, row)
        backdate(session, "lease_expires", timedelta(minutes=5))
        deliveries.requeue_lost(session)
    assert fresh(session, row).status == "failed"
    assert len(attempts_of(session, row.id)) == 10


@pytest.mark.parametrize("gone", [Analysis, WebhookEndpoint])
def test_a_try_in_hand_of_what_was_deleted_is_not_followed_by_another(
    clean_database: str, gone: type[Analysis | WebhookEndpoint]
) -> None:
    assert clean_database
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        claim = claimed(session, owed(session, endpoint))
    identity: UUID | None = claim.analysis_id if gone is Analysis else claim.endpoint_id
    with db.transaction() as session:
        session.execute(delete(gone).where(gone.id == identity))
    with pytest.raises(Fenced), db.transaction() as session:
        deliveries.close(session, claim, outcome())
    with db.read() as session:
        assert deliveries_of(session) == []
        assert attempts_of(session, claim.delivery_id) == []


def test_the_log_is_forgotten_after_its_time(
    session: Session, endpoint: WebhookEndpoint, set_webhooks: Callable[..., None]
) -> None:
    over, waiting = owed(session, endpoint), owed(session, endpoint)
    deliveries.close(session, claimed(session, over), outcome(200))
    assert deliveries.prune(session) == 0
    set_webhooks(keep_log="PT0S")
    backdate(session, "closed_at", timedelta(seconds=5))
    backdate(session, "created_at", timedelta(days=40))
    session.execute(select(func.pg_sleep(0.002)))  # the id carries milliseconds
    with db.transaction() as other:
        assert other.scalar(select(func.count()).select_from(WebhookDelivery)) == 0  # not committed
    session.commit()
    with db.transaction() as later:
        assert deliveries.prune(later) == 1
        assert [row.id for row in deliveries_of(later)] == [waiting.id]
        assert later.scalar(select(func.count()).select_from(Analysis)) == 2
