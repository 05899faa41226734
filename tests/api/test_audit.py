"""GET /v1/audit: one's own log, in pages, for those who may."""

from __future__ import annotations

import httpx2
import pytest

from core import keys
from core.keys import Caller, Scope
from tests.api.conftest import client, make_key
from tests.core.eraser import ended, submitted

URL = "/v1/audit"


def actions(http: httpx2.Client, **query: str | int) -> list[str]:
    answered = http.get(URL, params=query)
    assert answered.status_code == 200, answered.text
    return [item["action"] for item in answered.json()["items"]]


def test_it_tells_the_whole_story_the_newest_first(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice))
    http.post(f"/v1/analyses/{identity}/hold", json={"reason": "case 7"})
    http.delete(f"/v1/analyses/{identity}/hold")
    receipt = http.delete(f"/v1/analyses/{identity}").json()
    items = http.get(URL).json()["items"]
    assert [item["action"] for item in items] == [
        "analysis.erased", "analysis.deleted", "hold.released", "hold.set", "key.created",
    ]  # fmt: skip
    assert {item["actor"] for item in items} == {alice.key_id, "command line"}
    assert [item["subject"] for item in items] == [str(identity)] * 4 + [alice.key_id]
    assert items[0]["detail"]["id"] == receipt["id"] == items[1]["detail"]["erasure"]
    assert items[3]["detail"] == {"reason": "case 7"}
    assert set(items[0]) == {"id", "at", "actor", "action", "subject", "detail", "request_id"}


def test_another_owners_log_is_another_log(
    http: httpx2.Client, alice: Caller, address: tuple[str, int]
) -> None:
    ended(submitted(alice))
    with client(address, make_key("mallory")) as other:
        assert actions(other) == ["key.created"]
        assert other.get(URL).json()["items"][0]["subject"] != alice.key_id
    assert actions(http) == ["key.created"]


def test_it_comes_in_pages(http: httpx2.Client) -> None:
    for _ in range(4):
        make_key("alice")
    first = http.get(URL, params={"limit": 3}).json()
    second = http.get(URL, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert (len(first["items"]), len(second["items"]), second["next_cursor"]) == (3, 2, None)
    seen = [item["id"] for item in first["items"] + second["items"]]
    assert len(set(seen)) == 5
    wrong = http.get(URL, params={"limit": 3, "cursor": first["next_cursor"], "action": "key.created"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_cursor")


def test_it_can_be_filtered(http: httpx2.Client, alice: Caller) -> None:
    identity = submitted(alice)
    http.post(f"/v1/analyses/{identity}/hold", json={"reason": "case 7"})
    assert actions(http, action="hold.set") == ["hold.set"]
    assert actions(http, action="hold.released") == []
    assert actions(http, subject=str(identity)) == ["hold.set"]
    at = http.get(URL, params={"action": "hold.set"}).json()["items"][0]["at"]
    assert actions(http, after=at) == ["hold.set"]
    assert actions(http, before=at) == ["key.created"]


@pytest.mark.parametrize(
    "query",
    [
        {"action": "nothing"}, {"action": ""}, {"limit": 0}, {"limit": 201}, {"after": "yesterday"},
        {"after": "2026-01-01T00:00:00"}, {"owner": "mallory"}, {"subject": "x" * 256}, {"subject": "\x00"},
        {"cursor": "x" * 513},
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused(http: httpx2.Client, query: dict[str, str | int]) -> None:
    answered = http.get(URL, params=query)
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid_parameter")


def test_it_is_for_administrators(address: tuple[str, int], alice: Caller) -> None:
    assert alice
    with client(address, make_key("alice", *keys.ORDINARY)) as http:
        refused = http.get(URL)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    with client(address, make_key("alice", Scope.ADMIN)) as http:
        assert http.get(URL).status_code == 200
    with client(address) as nobody:
        assert nobody.get(URL).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_can_write_it(http: httpx2.Client, method: str) -> None:
    assert http.request(method, URL).status_code == 405


def test_what_is_done_to_endpoints_is_there_without_their_addresses(http: httpx2.Client) -> None:
    made = http.post(
        "/v1/webhook-endpoints",
        json={"url": "https://example.org/hook?token=hidden", "events": ["analysis.completed"]},
        headers={"Idempotency-Key": '"once"'},
    )
    assert made.status_code == 201, made.text
    again = http.post(
        "/v1/webhook-endpoints",
        json={"url": "https://example.org/hook?token=hidden", "events": ["analysis.completed"]},
        headers={"Idempotency-Key": '"once"'},
    )
    path = f"/v1/webhook-endpoints/{made.json()['id']}"
    assert http.patch(path, json={"description": "hidden"}).status_code == 200
    assert http.post(f"{path}/rotate-secret").status_code == 200
    assert http.post(f"{path}/rotate-secret").status_code == 409
    assert http.delete(path).status_code == 204
    assert http.delete(path).status_code == 404
    log = http.get(URL, params={"subject": made.json()["id"]})
    assert [item["action"] for item in log.json()["items"]] == [
        "webhook_endpoint.deleted", "webhook_endpoint.secret_rotated", "webhook_endpoint.changed",
        "webhook_endpoint.created",
    ]  # fmt: skip
    assert again.json()["id"] == made.json()["id"], "a replay is not done again"
    assert "hidden" not in log.text
