"""What is published now: the oldest first, and no receiver can fill more than its owner's places."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from core import db
from core.config import settings
from core.models import WebhookDelivery, WebhookEndpoint
from core.webhooks import deliveries, outbox
from core.webhooks.outbox import PER_ENDPOINT, PER_OWNER
from tests.core.test_locks import in_a_thread
from tests.core.test_plans import plan
from tests.core.webhooks.factories import backdate, create_endpoint, deliveries_of, make_due, outcome, owed


def owe_many(session: Session, endpoint: WebhookEndpoint, count: int) -> list[WebhookDelivery]:
    return [owed(session, endpoint) for _ in range(count)]


def published(session: Session) -> list[WebhookDelivery]:
    """One round of the dispatcher."""
    due = list(outbox.due(session))
    outbox.mark_published(session, due)
    session.expire_all()
    return due


def test_a_backlog_gets_its_few_places_and_others_theirs(session: Session) -> None:
    slow = create_endpoint(session, owner="mallory")[0]
    owe_many(session, slow, 30)
    other = owe_many(session, create_endpoint(session, owner="bob")[0], 1)
    due = published(session)
    assert [row.owner for row in due].count("mallory") == PER_ENDPOINT
    assert other[0].id in {row.id for row in due}
    assert published(session) == []


def test_an_owner_with_many_endpoints_has_no_more_places(session: Session) -> None:
    for number in range(PER_OWNER):
        owe_many(session, create_endpoint(session, url=f"https://example.com/{number}")[0], 3)
    assert len(published(session)) == PER_OWNER


def test_a_place_is_free_again_when_a_try_is_over(session: Session) -> None:
    endpoint, _ = create_endpoint(session)
    rows = owe_many(session, endpoint, PER_ENDPOINT + 2)
    first, second = published(session)
    assert [first.id, second.id] == [row.id for row in rows[:2]]  # the oldest
    claim = deliveries.claim(session, first.id, owner="a")
    assert claim is not None
    assert published(session) == []  # one is being sent, one waits for a worker
    deliveries.close(session, claim, outcome(200))
    assert [row.id for row in published(session)] == [rows[2].id]


def test_what_waits_for_its_next_try_holds_no_place(session: Session) -> None:
    endpoint, _ = create_endpoint(session)
    failing, *rest = owe_many(session, endpoint, 3)
    published(session)
    claim = deliveries.claim(session, failing.id, owner="a")
    assert claim is not None
    deliveries.close(session, claim, outcome())
    assert [row.id for row in published(session)] == [rest[1].id]
    make_due(session)
    assert published(session) == []


def test_a_mark_that_comes_after_the_try_is_not_made(session: Session) -> None:
    """The worker may be quicker than the dispatcher: what waits for its next try holds no place."""
    row = owed(session, create_endpoint(session)[0])
    (due,) = outbox.due(session)
    session.expunge(due)
    claim = deliveries.claim(session, row.id, owner="a")
    assert claim is not None
    deliveries.close(session, claim, outcome())
    outbox.mark_published(session, [due])
    (found,) = deliveries_of(session)
    assert (found.status, found.attempt, found.published_at) == ("owed", 1, None)


def test_looking_for_the_due_waits_for_nobody(clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        row = owed(session, create_endpoint(session)[0])
    with db.transaction() as one, db.transaction() as other:
        assert len(outbox.due(one)) == 1
        assert deliveries.claim(other, row.id, owner="a") is not None


@pytest.mark.parametrize("change", ["mark", "postpone", "take_back"])
def test_the_dispatcher_and_a_deletion_do_not_wait_for_each_other(clean_database: str, change: str) -> None:
    """A deletion takes all deliveries of an analysis, one after the other: here it has the second first."""
    assert clean_database
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        rows = owe_many(session, endpoint, 2)
        ids = [row.id for row in rows]
        due = list(outbox.due(session))
        if change != "mark":
            outbox.mark_published(session, due)
            backdate(session, "published_at", timedelta(minutes=1))
    acts = {
        "mark": lambda other: outbox.mark_published(other, due),
        "postpone": lambda other: outbox.postpone(other, settings().steps),
        "take_back": lambda other: outbox.take_back(other, settings().steps),
    }
    one = select(WebhookDelivery).with_for_update()
    with db.transaction() as deleting:
        deleting.delete(deleting.scalars(one.where(WebhookDelivery.id == ids[1])).one())
        deleting.flush()
        with in_a_thread(acts[change]) as raised:
            deleting.delete(deleting.scalars(one.where(WebhookDelivery.id == ids[0])).one())
            deleting.commit()
    assert raised == []
    with db.read() as session:
        assert deliveries_of(session) == []


def test_what_nobody_claimed_for_long_is_looked_for(session: Session) -> None:
    endpoint, _ = create_endpoint(session)
    row = owed(session, endpoint)
    published(session)
    config = settings().steps
    assert outbox.unclaimed(session, config) == (1, 0)
    outbox.take_back(session, config)
    assert published(session) == []  # it is not stale
    backdate(session, "published_at", timedelta(minutes=1))
    assert outbox.unclaimed(session, config) == (1, 1)
    outbox.postpone(session, config)
    assert outbox.unclaimed(session, config) == (1, 0)
    backdate(session, "published_at", timedelta(minutes=1))
    outbox.take_back(session, config)
    assert [again.id for again in published(session)] == [row.id]
    deliveries.claim(session, row.id, owner="a")
    backdate(session, "published_at", timedelta(minutes=1))
    assert outbox.unclaimed(session, config) == (0, 0)
    outbox.take_back(session, config)
    assert deliveries_of(session)[0].published_at is not None  # it is being sent


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (outbox.due_query(), "ix_webhook_deliveries_due"),
        (outbox.in_flight_query(), "ix_webhook_deliveries_in_flight"),
    ],
)
def test_what_is_over_is_not_looked_at(session: Session, query: Select[tuple[object]], index: str) -> None:
    """Endpoints are few and are read whole; deliveries of years are not."""
    session.execute(text("SET LOCAL enable_bitmapscan = off"))
    found = plan(session, query)
    assert index in found
    assert "Seq Scan on webhook_deliveries" not in found
