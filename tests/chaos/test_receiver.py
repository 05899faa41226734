"""The receiver believes nobody without a signature, and says no when it is in the mood."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import cycle

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from chaos.receiver import Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "analysis.completed", "data": {"analysis_id": "one"}})


def post(receiver: Receiver, secret: str = SECRET, body: str = BODY) -> httpx2.Response:
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("evt_1", now, BODY)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return httpx2.post(receiver.url, content=body, headers=headers, trust_env=False)


def test_a_signed_call_is_taken_and_remembered() -> None:
    with Receiver() as it:
        it.trust(SECRET)
        assert post(it).status_code == 204
        (call,) = it.calls("one")
    assert call.taken
    assert (call.event_id, call.event_type, call.analysis_id) == ("evt_1", "analysis.completed", "one")


@pytest.mark.parametrize(
    ("secret", "body"),
    [("whsec_" + "A" * 32, BODY), (SECRET, BODY.replace("one", "two")), (SECRET, "no json")],
)
def test_what_does_not_verify_is_not_taken(secret: str, body: str) -> None:
    with Receiver() as it:
        it.trust(SECRET)
        post(it, secret, body)
        (call,) = it.calls()
    assert not call.verified
    assert not call.taken


def test_a_flaky_mood_refuses_and_hangs_up() -> None:
    answers = cycle([500, None, 200])
    with Receiver(lambda _: next(answers)) as it:
        it.trust(SECRET)
        assert post(it).status_code == 500
        with pytest.raises(httpx2.TransportError):
            post(it)
        assert post(it).status_code == 200
        assert [call.taken for call in it.calls()] == [False, False, True]
        assert {call.event_id for call in it.calls()} == {"evt_1"}
