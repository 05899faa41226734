"""What `/metrics` says of webhooks."""

from __future__ import annotations

from datetime import timedelta

import httpx2

from core import db
from core.webhooks import deliveries
from tests.api.test_health import figures
from tests.core.webhooks.factories import backdate, create_endpoint, outcome, owed


def test_the_backlog_and_its_age_are_counted_in_the_database(http: httpx2.Client) -> None:
    before = figures(http)
    assert (
        before["deepdefend_webhook_backlog", "owed"] == before["deepdefend_webhook_backlog", "sending"] == 0
    )
    assert before["deepdefend_webhook_oldest_due_seconds",] == 0
    with db.transaction() as session:
        endpoint, _ = create_endpoint(session)
        failed, waiting, sent = (owed(session, endpoint) for _ in range(3))
        backdate(session, "next_attempt_at", timedelta(hours=1))
        for row, status in ((failed, 500), (sent, 200)):
            claim = deliveries.claim(session, row.id, owner="a")
            assert claim is not None
            deliveries.close(session, claim, outcome(status))
        assert deliveries.claim(session, owed(session, endpoint).id, owner="a") is not None
        assert waiting.status == "owed"
    found = figures(http)
    assert found["deepdefend_webhook_backlog", "owed"] == 2
    assert found["deepdefend_webhook_backlog", "sending"] == 1
    # The one that failed is not due: it waits for its next try, not for us.
    assert 3600 <= found["deepdefend_webhook_oldest_due_seconds",] < 3700
