"""The log of deliveries, redelivery and the test event."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.errors import Conflict, InvalidCursor, NotFound
from core.models import WebhookDelivery, WebhookEndpoint
from core.webhooks import deliveries, endpoints, history
from core.webhooks.domain import DeliveryStatus, Disabled
from tests.core.webhooks.factories import create_endpoint, deliveries_of, make_due, outcome, owed


@pytest.fixture
def endpoint(session: Session) -> WebhookEndpoint:
    return create_endpoint(session)[0]


def tried(session: Session, row: WebhookDelivery, status: int) -> None:
    claim = deliveries.claim(session, row.id, owner="a")
    assert claim is not None
    deliveries.close(session, claim, outcome(status, answer=f"said {status}"))
    session.expire_all()


def test_pages_hold_every_delivery_once_with_its_tries(session: Session, endpoint: WebhookEndpoint) -> None:
    rows = [owed(session, endpoint) for _ in range(5)]
    for row in rows[:2]:
        tried(session, row, 500)
    seen: list[WebhookDelivery] = []
    cursor = None
    while True:
        page = history.page(session, endpoint, cursor=cursor, limit=2)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [row.id for row in seen] == [row.id for row in reversed(rows)]
    assert [len(row.attempts) for row in seen] == [0, 0, 0, 1, 1]
    assert seen[-1].attempts[0].answer == "said 500"


def test_a_page_can_be_of_one_status(session: Session, endpoint: WebhookEndpoint) -> None:
    good, _ = owed(session, endpoint), owed(session, endpoint)
    tried(session, good, 200)
    found = history.page(session, endpoint, status=DeliveryStatus.DELIVERED)
    assert [row.id for row in found.items] == [good.id]


def test_a_cursor_is_for_its_endpoint_and_its_filter(session: Session, endpoint: WebhookEndpoint) -> None:
    for _ in range(2):
        owed(session, endpoint)
    cursor = history.page(session, endpoint, limit=1).next_cursor
    other, _ = create_endpoint(session)
    with pytest.raises(InvalidCursor):
        history.page(session, other, cursor=cursor)
    with pytest.raises(InvalidCursor):
        history.page(session, endpoint, cursor=cursor, status=DeliveryStatus.OWED)


def test_one_delivery_belongs_to_its_endpoint(session: Session, endpoint: WebhookEndpoint) -> None:
    row, (other, _) = owed(session, endpoint), create_endpoint(session)
    assert history.find(session, endpoint, row.id) is row
    for at, which in ((other, row.id), (endpoint, uuid4())):
        with pytest.raises(NotFound):
            history.find(session, at, which)


@pytest.mark.parametrize("status", [200, 410, 500])
def test_any_delivery_can_be_sent_again_under_its_id(session: Session, status: int) -> None:
    endpoint, _ = create_endpoint(session)
    row = owed(session, endpoint)
    event_id, body = row.event_id, row.body
    tried(session, row, status)
    if status == 410:
        endpoints.change(session, "alice", endpoint.id, enabled=True)
    endpoints.change(session, "alice", endpoint.id, url="https://example.org/new")
    again = history.redeliver(session, "alice", endpoint.id, row.id)
    assert (again.status, again.url, again.closed_at) == ("owed", "https://example.org/new", None)
    assert [attempt.number for attempt in again.attempts] == [1]
    claim = deliveries.claim(session, row.id, owner="a")
    assert claim is not None
    assert (claim.event_id, claim.body, claim.attempt, claim.tries) == (event_id, body, 2, 1)


def test_a_redelivery_has_all_its_tries(session: Session, endpoint: WebhookEndpoint) -> None:
    row = owed(session, endpoint)
    for _ in range(10):
        tried(session, row, 500)
        make_due(session)
    session.refresh(row)
    assert row.status == "failed"
    history.redeliver(session, "alice", endpoint.id, row.id)
    tried(session, row, 500)
    session.refresh(row)
    assert (row.status, row.attempt, row.tries) == ("owed", 11, 1)


def test_one_that_waits_for_its_next_try_is_brought_forward(
    session: Session, endpoint: WebhookEndpoint
) -> None:
    row = owed(session, endpoint)
    tried(session, row, 500)
    again = history.redeliver(session, "alice", endpoint.id, row.id)
    assert again.next_attempt_at <= session.scalars(select(func.now())).one() + timedelta(seconds=1)


def test_one_that_is_being_sent_is_not_sent_twice(session: Session, endpoint: WebhookEndpoint) -> None:
    row = owed(session, endpoint)
    deliveries.claim(session, row.id, owner="a")
    with pytest.raises(Conflict) as refused:
        history.redeliver(session, "alice", endpoint.id, row.id)
    assert refused.value.code == "delivery_in_progress"


def test_a_disabled_endpoint_takes_neither_a_redelivery_nor_a_test(
    session: Session, endpoint: WebhookEndpoint
) -> None:
    row = owed(session, endpoint)
    endpoints.disable(session, endpoint, Disabled.GONE)
    with pytest.raises(Conflict) as refused:
        history.redeliver(session, "alice", endpoint.id, row.id)
    assert refused.value.code == "endpoint_disabled"
    with pytest.raises(Conflict):
        history.send_test(session, "alice", endpoint.id)


def test_nothing_of_another_owner_can_be_sent(session: Session, endpoint: WebhookEndpoint) -> None:
    row, (mine, _) = owed(session, endpoint), create_endpoint(session, owner="bob")
    for endpoint_id in (endpoint.id, mine.id):
        with pytest.raises(NotFound):
            history.redeliver(session, "bob", endpoint_id, row.id)
    with pytest.raises(NotFound):
        history.send_test(session, "bob", endpoint.id)


def test_a_test_event_is_owed_to_one_endpoint(session: Session, endpoint: WebhookEndpoint) -> None:
    create_endpoint(session)
    row = history.send_test(session, "alice", endpoint.id)
    assert [found.id for found in deliveries_of(session)] == [row.id]
    assert json.loads(row.body)["data"] == {"endpoint_id": str(endpoint.id)}
    assert (row.event_type, row.analysis_id, row.status) == ("webhook.test", None, "owed")
    with pytest.raises(Conflict) as refused:
        history.send_test(session, "alice", endpoint.id)
    assert refused.value.code == "test_in_progress"
    tried(session, row, 500)
    assert history.send_test(session, "alice", endpoint.id).id != row.id


def test_an_endpoint_without_an_address_cannot_be_tested(session: Session) -> None:
    own, _ = create_endpoint(session, url=None)
    with pytest.raises(Conflict) as refused:
        history.send_test(session, "alice", own.id)
    assert refused.value.code == "endpoint_without_url"
