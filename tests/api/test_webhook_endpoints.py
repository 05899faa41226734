"""The calls about webhooks, over HTTP: what they answer, to whom, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text
from standardwebhooks import Webhook

from core import db
from core.keys import Scope
from core.models import Base, IdempotencyKey, WebhookEndpoint
from core.webhooks import deliveries
from core.webhooks.deliveries import Claim
from tests.api.conftest import Bucket, client, make_key, rows, send
from tests.core.webhooks.factories import deliveries_of, ended, outcome

ENDPOINTS = "/v1/webhook-endpoints"
URL = "https://example.com/hook"


def create(http: httpx2.Client, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
    return http.post(ENDPOINTS, json={"url": URL, **body}, headers=headers or {})


def created(http: httpx2.Client, **body: Any) -> dict[str, Any]:
    response = create(http, **body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def refused(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"]) == (status, code), problem
    return problem


@pytest.fixture
def bob(address: tuple[str, int], key: str) -> Iterator[httpx2.Client]:
    assert key
    with client(address, make_key("bob")) as opened:
        yield opened


def told(status: int = 200) -> tuple[str, Claim]:
    """An ended analysis of alice whose event was tried once."""
    with db.transaction() as session:
        analysis = ended(session, metadata_={"ticket": 7})
        row = deliveries_of(session)[-1]
        claim = deliveries.claim(session, row.id, owner="worker")
        assert claim is not None
        deliveries.close(session, claim, outcome(status, answer="said so"))
    return str(analysis.id), claim


def test_the_secret_is_shown_once(http: httpx2.Client) -> None:
    response = create(http, description="newsroom")
    body = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"{ENDPOINTS}/{body['id']}" == body["links"]["self"]
    assert response.headers["cache-control"] == "private, no-store"
    assert Webhook(body["secret"])
    shown = http.get(body["links"]["self"]).json()
    assert "secret" not in shown
    assert shown == {name: value for name, value in body.items() if name != "secret"}
    assert shown | {"id": 0, "created_at": 0, "links": 0} == {
        "id": 0,
        "url": URL,
        "events": ["analysis.completed", "analysis.failed", "analysis.canceled"],
        "description": "newsroom",
        "enabled": True,
        "disabled_at": None,
        "disabled_reason": None,
        "failing_since": None,
        "former_secret_until": None,
        "created_at": 0,
        "links": 0,
    }
    assert http.get(ENDPOINTS).json() == {"items": [shown]}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "http://169.254.169.254/"}, 422, "unsafe_url"),
        ({"url": "https://a:b@example.com/"}, 422, "unsafe_url"),
        ({"url": "https://example.com:22/"}, 422, "unsafe_url"),
        ({"url": ""}, 422, "invalid_option"),
        ({"url": "https://example.com/" + "x" * 2048}, 422, "invalid_option"),
        ({"url": 5}, 422, "invalid_option"),
        ({"events": []}, 422, "invalid_option"),
        ({"events": ["analysis.failed", "analysis.failed"]}, 422, "invalid_option"),
        ({"events": ["webhook.test"]}, 422, "invalid_option"),
        ({"events": "analysis.failed"}, 422, "invalid_option"),
        ({"description": "x" * 201}, 422, "invalid_option"),
        ({"secret": "whsec_mine"}, 422, "invalid_option"),
        ({"description": "a\0b"}, 422, "invalid_option"),
        ({"url": URL + "\0"}, 422, "unsafe_url"),
    ],
)
def test_what_is_wrong_is_refused(http: httpx2.Client, body: dict[str, Any], status: int, code: str) -> None:
    refused(create(http, **body), status, code)
    assert rows(WebhookEndpoint) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"[]", 400), (b'{"url":1,"url":2}', 400), (b"{", 400), (b"\xff", 400)],
)
def test_a_body_that_is_no_object_is_refused(http: httpx2.Client, content: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    refused(http.post(ENDPOINTS, content=content, headers=headers), status, "malformed_json")


def test_a_key_needs_the_scope(http: httpx2.Client, address: tuple[str, int]) -> None:
    here = created(http)["links"]["self"]
    others = [scope for scope in Scope if scope is not Scope.WEBHOOKS]
    with client(address, make_key("alice", *others)) as poor:
        for method, path in (
            ("GET", ENDPOINTS),
            ("GET", here),
            ("PATCH", here),
            ("DELETE", here),
            ("POST", f"{here}/rotate-secret"),
            ("POST", f"{here}/test"),
            ("GET", f"{here}/deliveries"),
            ("GET", f"{here}/deliveries/{uuid4()}"),
            ("POST", f"{here}/deliveries/{uuid4()}/redeliver"),
        ):
            problem = refused(poor.request(method, path), 403, "forbidden")
            assert problem["required_scope"] == "webhooks"
        refused(create(poor), 403, "forbidden")


def test_another_owner_finds_nothing_and_changes_nothing(http: httpx2.Client, bob: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    _, claim = told()
    own = create(bob).json()["links"]["self"]
    for endpoint in (here, own):
        one = f"{endpoint}/deliveries/{claim.delivery_id}"
        refused(bob.get(one), 404, "not_found")
        refused(bob.post(f"{one}/redeliver"), 404, "not_found")
    refused(bob.get(here), 404, "not_found")
    refused(bob.patch(here, json={"enabled": False}), 404, "not_found")
    refused(bob.delete(here), 404, "not_found")
    refused(bob.post(f"{here}/rotate-secret"), 404, "not_found")
    refused(bob.post(f"{here}/test"), 404, "not_found")
    refused(bob.get(f"{here}/deliveries"), 404, "not_found")
    assert [item["links"]["self"] for item in bob.get(ENDPOINTS).json()["items"]] == [own]
    assert http.get(here).json()["enabled"] is True


def test_a_change_changes_what_it_names(http: httpx2.Client) -> None:
    here = created(http, description="x")["links"]["self"]
    found = http.patch(here, json={"events": ["analysis.progress"], "description": None}).json()
    assert (found["events"], found["description"], found["url"]) == (["analysis.progress"], None, URL)
    assert http.patch(here, json={}).json() == found
    assert http.patch(here, json={"enabled": False}).json()["disabled_reason"] == "by_owner"
    assert http.patch(here, json={"enabled": True}).json()["enabled"] is True
    for wrong in (
        {"url": None},
        {"enabled": 1},
        {"enabled": None},
        {"events": None},
        {"id": "x"},
        {"description": "\0"},
    ):
        refused(http.patch(here, json=wrong), 422, "invalid_option")
    refused(http.patch(here, json={"url": "http://[::1]/"}), 422, "unsafe_url")
    assert http.get(here).json()["url"] == URL


def test_what_is_deleted_is_gone(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    assert http.delete(here).status_code == 204
    refused(http.delete(here), 404, "not_found")
    assert rows(WebhookEndpoint) == []


def test_a_rotation_and_the_refusal_of_another(http: httpx2.Client) -> None:
    made = created(http)
    turned = http.post(f"{made['links']['self']}/rotate-secret")
    assert turned.status_code == 200
    assert turned.json()["secret"] not in {None, made["secret"]}
    problem = refused(http.post(f"{made['links']['self']}/rotate-secret"), 409, "rotation_in_progress")
    assert problem["until"].startswith(turned.json()["former_secret_until"][:19])


def test_there_are_only_so_many(http: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(WEBHOOKS__MAX_ENDPOINTS=1)
    created(http)
    assert refused(create(http), 409, "too_many_endpoints")["limit"] == 1
    created(http, url=None)
    refused(create(http, url=None), 409, "endpoint_exists")


def test_the_log_tells_every_try(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    analysis_id, claim = told(503)
    (found,) = http.get(f"{here}/deliveries").json()["items"]
    assert found["attempts"] == [
        {
            "number": 1,
            "at": found["attempts"][0]["at"],
            "milliseconds": 12,
            "status": 503,
            "error": None,
            "answer": "said so",
        }
    ]
    assert (found["status"], found["event_type"]) == ("owed", "analysis.failed")
    assert (found["event_id"], found["body"], found["url"]) == (claim.event_id, claim.body, URL)
    assert found["next_attempt_at"] is not None
    assert found["links"]["analysis"] == f"/v1/analyses/{analysis_id}"
    assert http.get(found["links"]["self"]).json() == found


def test_the_log_comes_in_pages(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    ids = [str(told()[1].delivery_id) for _ in range(3)]
    first = http.get(f"{here}/deliveries", params={"limit": 2}).json()
    rest = http.get(f"{here}/deliveries", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    refused(http.get(f"{here}/deliveries", params={"cursor": "x"}), 400, "invalid_cursor")
    assert http.get(f"{here}/deliveries", params={"status": "failed"}).json()["items"] == []
    refused(http.get(f"{here}/deliveries", params={"status": "lost"}), 422, "invalid_parameter")


def test_a_test_event_and_its_outcome(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    response = http.post(f"{here}/test")
    assert response.status_code == 202
    assert (response.json()["event_type"], response.json()["analysis_id"]) == ("webhook.test", None)
    refused(http.post(f"{here}/test"), 409, "test_in_progress")
    own = created(http, url=None)["links"]["self"]
    refused(http.post(f"{own}/test"), 409, "endpoint_without_url")
    http.patch(here, json={"enabled": False})
    refused(http.post(f"{here}/test"), 409, "endpoint_disabled")


def test_an_event_can_be_sent_again(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    _, claim = told()
    again = http.post(f"{here}/deliveries/{claim.delivery_id}/redeliver")
    assert again.status_code == 202
    assert (again.json()["status"], again.json()["event_id"]) == ("owed", claim.event_id)
    refused(http.post(f"{here}/deliveries/{uuid4()}/redeliver"), 404, "not_found")


def test_a_create_that_is_repeated_makes_one_and_hides_the_secret(http: httpx2.Client) -> None:
    first, second = (create(http, {"Idempotency-Key": '"one"'}) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert first.json()["secret"].startswith("whsec_")
    assert second.json() == first.json() | {"secret": None}
    assert len(rows(WebhookEndpoint)) == 1
    refused(create(http, {"Idempotency-Key": '"one"'}, description="other"), 422, "idempotency_mismatch")


def test_no_secret_lies_anywhere_in_the_clear(http: httpx2.Client) -> None:
    made = create(http, {"Idempotency-Key": '"a"'}).json()
    turned = http.post(f"{made['links']['self']}/rotate-secret", headers={"Idempotency-Key": '"b"'}).json()
    everything = "".join(row for table in Base.metadata.sorted_tables for row in as_text(table.name))
    assert str(made["id"]) in everything
    for secret in (made["secret"], turned["secret"]):
        assert secret.removeprefix("whsec_") not in everything
        assert secret.removeprefix("whsec_").encode().hex() not in everything


def as_text(table: str) -> list[str]:
    """Every row of a table as Postgres writes it."""
    with db.read() as session:
        return list(session.scalars(text(f"SELECT t::text FROM {table} t")))  # noqa: S608 - our own names


@pytest.mark.parametrize("what", ["rotate-secret", "test", "redeliver"])
def test_every_other_post_is_done_once_for_a_key(http: httpx2.Client, what: str) -> None:
    here = created(http)["links"]["self"]
    _, claim = told()
    path = f"{here}/deliveries/{claim.delivery_id}/redeliver" if what == "redeliver" else f"{here}/{what}"
    first, second = (http.post(path, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.is_success
    assert second.status_code == first.status_code
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json() | ({"secret": None} if "secret" in first.json() else {})


def test_a_refused_create_leaves_the_key_free(http: httpx2.Client) -> None:
    refused(create(http, {"Idempotency-Key": "k"}, url="ftp://x.org"), 422, "unsafe_url")
    assert create(http, {"Idempotency-Key": "k"}).status_code == 201


def test_erasing_an_analysis_takes_its_replays_along(http: httpx2.Client) -> None:
    here = created(http)["links"]["self"]
    analysis_id, claim = told()
    http.post(f"{here}/deliveries/{claim.delivery_id}/redeliver", headers={"Idempotency-Key": "k"})
    assert "ticket" in str(rows(IdempotencyKey)[0].body)
    assert http.delete(f"/v1/analyses/{analysis_id}").is_success
    assert rows(IdempotencyKey) == []
    assert http.get(f"{here}/deliveries").json()["items"] == []


def test_a_submission_needs_an_address_that_can_be_told(http: httpx2.Client, media: Bucket) -> None:
    refused(send(http, b"clip", webhook_url=URL), 422, "no_webhook_secret")
    own = created(http, url=None)
    assert own["url"] is None
    refused(send(http, b"clip", webhook_url="http://10.0.0.1/"), 422, "unsafe_url")
    assert media.names() == set()
    accepted = send(http, b"clip", webhook_url=URL)
    assert accepted.status_code == 202
    assert accepted.json()["webhook_url"] == URL


def test_canceling_owes_the_news_at_both_addresses(http: httpx2.Client, media: Bucket) -> None:
    assert media
    mine, own = created(http), created(http, url=None)
    accepted = send(http, b"clip", webhook_url="https://example.net/once").json()
    assert http.post(f"{accepted['links']['self']}/cancel").is_success
    owed = {
        made["id"]: http.get(f"{made['links']['self']}/deliveries").json()["items"] for made in (mine, own)
    }
    assert [item["url"] for item in owed[mine["id"]]] == [URL]
    assert [item["url"] for item in owed[own["id"]]] == ["https://example.net/once"]
    (event,) = {item["event_id"] for items in owed.values() for item in items}
    assert event.startswith("evt_")
