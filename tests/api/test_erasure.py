"""DELETE /v1/analyses/{id}, its receipt and legal holds, as callers see them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import select, text

from api.routes import erasure
from core import db, retention
from core.domain import Stage
from core.keys import Caller, Scope
from core.models import Analysis, AuditEntry, Erasure, IdempotencyKey, Interval, Media, Step, Track
from core.storage import storage
from tests.api.conftest import client, make_key, rows, send
from tests.core.eraser import empty_bucket, ended, file_of, load, objects, scratch, submitted
from tests.core.factories import claim_step

URL = "/v1/analyses"
CONTENT = b"the same bytes, sent more than once"
SetSettings = Callable[..., None]


@pytest.fixture(autouse=True)
def nothing_stored(bucket: str) -> None:
    assert bucket
    empty_bucket()


def delete(http: httpx2.Client, identity: UUID | str) -> httpx2.Response:
    return http.delete(f"{URL}/{identity}")


def receipt(http: httpx2.Client, identity: UUID | str) -> httpx2.Response:
    return http.get(f"/v1/erasures/{identity}")


def hold(http: httpx2.Client, identity: UUID | str, reason: object = "case 7") -> httpx2.Response:
    return http.post(f"{URL}/{identity}/hold", json={"reason": reason})


def test_the_receipt_says_what_was_erased_and_nothing_is_left(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice))
    file, there = file_of(identity), objects()
    assert len(there) == 3
    sizes = sum(len(storage().read(key)) for key in there)
    answered = delete(http, identity)
    body = answered.json()
    assert answered.status_code == 200
    assert answered.headers["cache-control"] == "private, no-store"
    assert objects() == []
    for table in (Analysis, Media, Step, Interval, Track, Erasure, IdempotencyKey):
        assert rows(table) == [], table
    assert body["analysis_id"] == str(identity)
    assert (body["complete"], body["requested_by"]) == (True, alice.key_id)
    assert body["completed_at"] >= body["requested_at"]
    assert body["media"] == {"sha256": file.sha256, "size_bytes": 64, "outcome": "erased"}
    assert (body["objects"], body["bytes"]) == (3, sizes)
    assert {name: count for name, count in body["rows"].items() if count} == {
        "analyses": 1, "media": 1, "steps": 3, "intervals": 4, "tracks": 1,
    }  # fmt: skip
    assert http.get(f"{URL}/{identity}").status_code == 404
    assert http.get(f"{URL}/{identity}/intervals").status_code == 404
    assert http.get(URL).json()["items"] == []


def test_the_receipt_can_be_read_and_had_again(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice))
    first = delete(http, identity)
    again, read = delete(http, identity), receipt(http, identity)
    assert (first.status_code, again.status_code, read.status_code) == (200, 200, 200)
    assert first.json() == again.json() == read.json()
    assert "retry-after" not in read.headers


def test_a_submission_can_be_erased_at_once_and_its_replay_is_gone(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": '"night"'}
    sent = http.post(URL, files={"file": ("a.mp4", CONTENT)}, headers=headers)
    identity = sent.json()["id"]
    answered = delete(http, identity)
    assert answered.status_code == 200, answered.json()
    assert answered.json()["rows"]["idempotency_keys"] == 1
    assert (objects(), rows(IdempotencyKey)) == ([], [])
    again = http.post(URL, files={"file": ("a.mp4", CONTENT)}, headers=headers)
    assert again.json()["id"] != identity, "the key is free, as if never used"
    assert "idempotency-replayed" not in again.headers
    assert len(objects()) == 1


def test_one_at_work_is_pending_until_the_worker_has_surely_stopped(
    http: httpx2.Client, alice: Caller
) -> None:
    identity = submitted(alice)
    with db.transaction() as session:
        claim_step(session, identity, Stage.EXTRACT)
    scratch(identity)
    answered = delete(http, identity)
    body = answered.json()
    assert answered.status_code == 202
    assert answered.headers["location"] == f"/v1/erasures/{identity}"
    assert int(answered.headers["retry-after"]) >= 1
    assert (body["complete"], body["completed_at"]) == (False, None)
    assert (body["objects"], body["bytes"], body["media"]["outcome"]) == (None, None, "pending")
    assert (objects(), rows(Analysis)) == ([], [])
    pending = receipt(http, identity)
    assert (pending.status_code, pending.json()) == (200, body)
    assert int(pending.headers["retry-after"]) >= 1
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET settled_at = now()"))
    done = delete(http, identity)
    assert (done.status_code, done.json()["complete"], done.json()["objects"]) == (200, True, 2)
    assert done.json()["id"] == body["id"]


def test_a_file_that_another_analysis_needs_is_kept_and_said_to_be(
    http: httpx2.Client, alice: Caller
) -> None:
    first, second = (ended(submitted(alice, content=CONTENT)) for _ in range(2))
    body = delete(http, first).json()
    assert (body["media"]["outcome"], body["objects"], body["rows"]["media"]) == ("kept", 2, 0)
    assert storage().read(file_of(second).object_key) == CONTENT
    assert delete(http, second).json()["media"]["outcome"] == "erased"
    assert objects() == []


def test_while_the_storage_is_away_the_rows_are_gone_and_the_rest_is_owed(
    http: httpx2.Client, alice: Caller, set_settings: SetSettings
) -> None:
    identity = ended(submitted(alice))
    set_settings(S3__ENDPOINT_URL="http://127.0.0.1:1")
    answered = delete(http, identity)
    assert answered.status_code == 202
    assert (answered.json()["complete"], answered.json()["media"]["outcome"]) == (False, "pending")
    assert rows(Analysis) == []
    assert len(rows(Erasure)) == 1
    assert delete(http, identity).json() == answered.json(), "no second one"


def test_a_storage_that_hangs_keeps_nobody_waiting(
    http: httpx2.Client, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = ended(submitted(alice))
    over, real = threading.Event(), retention.carry_out

    def hang(erasure_id: UUID) -> bool:
        assert over.wait(60)
        return real(erasure_id)

    monkeypatch.setattr(erasure, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(retention, "carry_out", hang)
    answered = delete(http, identity)
    assert answered.status_code == 202
    assert http.get("/healthz").status_code == 200
    over.set()
    while not receipt(http, identity).json()["complete"]:
        threading.Event().wait(0.01)
    assert objects() == []


def test_what_is_not_there_and_what_is_anothers_is_the_same_answer(
    http: httpx2.Client, alice: Caller, address: tuple[str, int]
) -> None:
    mine, gone = ended(submitted(alice)), ended(submitted(alice))
    delete(http, gone)
    there = objects()
    with client(address, make_key("mallory")) as other:
        answers = [
            *(delete(other, identity) for identity in (mine, gone, uuid4())),
            *(receipt(other, identity) for identity in (mine, gone, uuid4())),
            *(hold(other, identity) for identity in (mine, gone, uuid4())),
            *(other.delete(f"{URL}/{identity}/hold") for identity in (mine, gone, uuid4())),
        ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert objects() == there
    assert receipt(http, mine).status_code == 404, "it has not been erased"


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.ANALYSES_READ, {"receipt"}),
        (Scope.ANALYSES_WRITE, {"delete"}),
        (Scope.ADMIN, {"hold", "release"}),
        (Scope.WEBHOOKS, set()),
        (Scope.STATS, set()),
    ],
)
def test_each_call_has_its_scope(
    alice: Caller, address: tuple[str, int], scope: Scope, allowed: set[str]
) -> None:
    identity = ended(submitted(alice))
    with client(address, make_key("alice", scope)) as http:
        answers = {
            "receipt": receipt(http, identity),
            "hold": hold(http, identity),
            "release": http.delete(f"{URL}/{identity}/hold"),
            "delete": delete(http, identity),
        }
    refused = {name for name, answer in answers.items() if answer.status_code == 403}
    assert refused == set(answers) - allowed
    assert {name for name, answer in answers.items() if answer.status_code == 200} == allowed - {"receipt"}


def test_without_a_key_nothing_happens(alice: Caller, address: tuple[str, int]) -> None:
    identity = ended(submitted(alice))
    with client(address) as nobody:
        answers = [delete(nobody, identity), receipt(nobody, identity), hold(nobody, identity)]
        answers.append(nobody.delete(f"{URL}/{identity}/hold"))
    assert [answer.status_code for answer in answers] == [401] * 4
    assert len(objects()) == 3


@pytest.mark.parametrize("identity", ["none", "0", "analyses", "%20"])
def test_what_is_no_id_is_a_wrong_parameter(http: httpx2.Client, identity: str) -> None:
    for answer in (delete(http, identity), receipt(http, identity), http.delete(f"{URL}/{identity}/hold")):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_a_held_analysis_cannot_be_deleted_until_it_is_released(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice))
    before = http.get(f"{URL}/{identity}")
    answered = hold(http, identity)
    assert answered.status_code == 200
    assert answered.json()["retention"]["legal_hold"] is True
    assert "case 7" not in answered.text, "the reason is the log's"
    assert answered.headers["etag"] != before.headers["etag"]
    assert http.get(f"{URL}/{identity}").json() == answered.json()
    refused = delete(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "legal_hold")
    assert refused.headers["content-type"] == "application/problem+json"
    assert len(objects()) == 3
    released = http.delete(f"{URL}/{identity}/hold")
    assert released.json()["retention"]["legal_hold"] is False
    assert released.json() | {"retention": None} == before.json() | {"retention": None}
    again = http.delete(f"{URL}/{identity}/hold")
    assert (again.json(), again.headers["etag"]) == (released.json(), released.headers["etag"])
    assert delete(http, identity).status_code == 200


def test_holding_what_is_being_erased_comes_too_late(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice, retention_hours=0))
    with db.transaction() as session:
        assert retention.condemn_media(session, identity, actor="dispatcher")
    refused = hold(http, identity)
    assert (refused.status_code, refused.json()["code"]) == (409, "erasure_in_progress")
    assert load(identity).held_at is None


@pytest.mark.parametrize(
    "body",
    [
        "{}", '{"reason": null}', '{"reason": ""}', '{"reason": " \\t"}', '{"reason": 7}',
        '{"reason": ["x"]}',
        '{"reason": "x", "more": 1}', '{"reason": "%s"}' % ("x" * 1001), "[]", '"case 7"', "null", "{", "",
        '{"reason": "a", "reason": "b"}', '{"reason": "\\u0000"}', '{"reason": "\\ud800"}', '{"reason": NaN}',
    ],
)  # fmt: skip
def test_a_reason_is_a_sentence(http: httpx2.Client, alice: Caller, body: str) -> None:
    identity = submitted(alice)
    answered = http.post(f"{URL}/{identity}/hold", content=body, headers={"Content-Type": "application/json"})
    assert answered.status_code in {400, 422}, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    assert load(identity).held_at is None


def test_a_reason_comes_as_json_and_in_bounds(http: httpx2.Client, alice: Caller) -> None:
    identity = submitted(alice)
    path = f"{URL}/{identity}/hold"
    assert http.post(path, data={"reason": "case 7"}).status_code == 415
    assert http.post(path, json={"reason": "x" * 200_000}).status_code == 413
    assert hold(http, identity, "Ünïcödé \N{SCALES} " + "x" * 900).status_code == 200


def test_the_envelope_says_until_when_the_file_is_kept_and_that_it_is_gone(http: httpx2.Client) -> None:
    sent = send(http, CONTENT, retention_hours="0").json()
    identity = UUID(sent["id"])
    assert sent["retention"] == {
        "hours": 0, "media_until": None, "media_erased_at": None, "legal_hold": False,
    }  # fmt: skip
    ended(identity)
    due = http.get(f"{URL}/{identity}")
    assert due.json()["retention"]["media_until"] >= due.json()["completed_at"]
    assert http.get("/v1/stats").json()["media"] == {"files": 1, "bytes": len(CONTENT)}
    retention.erase_media_if_due(identity)
    after = http.get(f"{URL}/{identity}")
    assert after.json()["retention"]["media_erased_at"] is not None
    assert after.json()["report"] == due.json()["report"]
    assert after.headers["etag"] != due.headers["etag"]
    assert http.get("/v1/stats").json()["media"] == {"files": 0, "bytes": 0}
    assert len(http.get(f"{URL}/{identity}/intervals").json()["items"]) == 4


def test_a_request_is_found_by_its_id_in_the_log(http: httpx2.Client, alice: Caller) -> None:
    identity = ended(submitted(alice))
    delete_id = http.delete(f"{URL}/{identity}", headers={"X-Request-ID": "why-1"}).headers["x-request-id"]
    with db.read() as session:
        query = select(AuditEntry.request_id).where(AuditEntry.subject == str(identity))
        assert set(session.scalars(query)) == {delete_id} == {"why-1"}
