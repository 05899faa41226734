"""POST /v1/analyses/{id}/cancel: every status it answers, and what it leaves behind."""

from __future__ import annotations

from uuid import UUID, uuid4

import httpx2
import pytest

from core import analyses, db
from core.errors import MediaError
from core.keys import Caller, Scope
from tests.api.conftest import client, make_key
from tests.api.test_analyses import URL, accepted, completed, extracted


def cancel(http: httpx2.Client, identity: UUID) -> httpx2.Response:
    return http.post(f"{URL}/{identity}/cancel")


@pytest.mark.parametrize("make", [accepted, extracted], ids=["queued", "processing"])
def test_the_answer_is_the_envelope_of_what_has_ended(
    http: httpx2.Client, alice: Caller, make: object
) -> None:
    assert callable(make)
    identity = make(alice)
    before = http.get(f"{URL}/{identity}")
    response = cancel(http, identity)
    body = response.json()
    assert response.status_code == 200
    assert (body["id"], body["status"]) == (str(identity), "canceled")
    assert (body["report"], body["verdict"], body["error"]) == (None, None, None)
    assert body["completed_at"] is not None
    assert set(body) == set(before.json())
    assert response.headers["etag"] != before.headers["etag"]
    assert "retry-after" not in response.headers, "nothing more will come"
    after = http.get(f"{URL}/{identity}")
    assert (after.json(), after.headers["etag"]) == (body, response.headers["etag"])


def test_again_it_is_the_same_answer(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    first, again = cancel(http, identity), cancel(http, identity)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first.headers["etag"] == again.headers["etag"]


def test_what_has_a_report_keeps_it(http: httpx2.Client, alice: Caller) -> None:
    identity = completed(alice)
    before = http.get(f"{URL}/{identity}")
    refused = cancel(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "completed" in refused.json()["detail"]
    after = http.get(f"{URL}/{identity}")
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_what_has_failed_says_so(http: httpx2.Client, alice: Caller) -> None:
    identity = accepted(alice)
    with db.transaction() as session:
        analyses.fail(session, identity, MediaError("no stream", code="no_streams"))
    refused = cancel(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert http.get(f"{URL}/{identity}").json()["error"]["code"] == "no_streams"


def test_another_owner_can_neither_cancel_nor_learn_of_it(
    http: httpx2.Client, alice: Caller, address: tuple[str, int]
) -> None:
    identity = accepted(alice)
    with client(address, make_key("mallory")) as other:
        refused, unknown = cancel(other, identity), cancel(other, uuid4())
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert refused.json()["detail"] == unknown.json()["detail"]
    assert http.get(f"{URL}/{identity}").json()["status"] == "queued"


def test_a_key_that_may_only_read_may_not_cancel(
    http: httpx2.Client, alice: Caller, address: tuple[str, int]
) -> None:
    identity = accepted(alice)
    with client(address, make_key("alice", Scope.ANALYSES_READ)) as reader:
        refused = cancel(reader, identity)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    with client(address) as nobody:
        assert cancel(nobody, identity).status_code == 401
    assert http.get(f"{URL}/{identity}").json()["status"] == "queued"


def test_what_is_no_id_is_a_wrong_parameter(http: httpx2.Client) -> None:
    response = http.post(f"{URL}/none/cancel")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
