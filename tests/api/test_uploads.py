"""`/v1/uploads`: a file straight to the storage, through the addresses that the API signs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import db, uploads
from core.config import MiB
from core.errors import StorageError
from core.keys import Scope
from core.models import IdempotencyKey, Upload
from core.storage import S3Storage
from tests.api.conftest import Bucket, client, make_key, rows

URL = "/v1/uploads"
PART = 5 * MiB


@pytest.fixture(autouse=True)
def small_parts(set_settings: Callable[..., None]) -> None:
    set_settings(UPLOADS__PART_BYTES=PART)


@pytest.fixture
def store(media: Bucket) -> Iterator[Bucket]:
    """The bucket; what a test leaves open is dropped, and what no row names is an error."""
    yield media
    with db.transaction() as session:
        named = {row.object_key for row in session.query(Upload)}
        session.execute(text("UPDATE uploads SET expires_at = now() WHERE status = 'open'"))
    assert set(media.unfinished()) <= named
    uploads.sweep()


def begin(http: httpx2.Client, size: int = 1000, **members: Any) -> dict[str, Any]:
    response = http.post(URL, json={"size_bytes": size, **members})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


def put(part: dict[str, Any], data: bytes, whole: int = PART) -> int:
    first = (part["number"] - 1) * whole
    piece = data[first : first + part["size_bytes"]]
    return httpx2.put(part["url"], content=piece, timeout=30, trust_env=False).status_code


def code(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def complete(http: httpx2.Client, upload: dict[str, Any], **body: Any) -> httpx2.Response:
    return http.post(upload["links"]["complete"], json=body or None)


def test_from_the_first_call_to_the_last(http: httpx2.Client, store: Bucket) -> None:
    data = os.urandom(2 * PART + 5)
    response = http.post(URL, json={"size_bytes": len(data), "filename": "../a\u202e/cl\0ip.mp4"})
    upload = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"{URL}/{upload['id']}" == upload["links"]["self"]
    assert "no-store" in response.headers["cache-control"]
    assert (upload["status"], upload["filename"], upload["part_bytes"]) == ("open", "clip.mp4", PART)
    assert [(p["number"], p["size_bytes"], p["received"]) for p in upload["parts"]] == [
        (1, PART, False),
        (2, PART, False),
        (3, 5, False),
    ]
    assert [put(part, data) for part in upload["parts"]] == [200] * 3
    assert store.names() == set(), "nothing is an object yet"
    done = complete(http, upload)
    assert done.status_code == 200
    assert done.json() | {"completed_at": None} == upload | {
        "status": "completed",
        "sha256": hashlib.sha256(data).hexdigest(),
        "parts": [],
        "urls_expire_at": None,
    }
    assert complete(http, upload).json() == done.json() == http.get(upload["links"]["self"]).json()
    (name,) = store.names()
    assert store.read(name) == data
    assert name != upload["id"], "the name in the storage is not told"
    assert name not in done.text
    submitted = http.post("/v1/analyses", json={"upload_id": upload["id"]})
    assert submitted.status_code == 202
    assert submitted.json()["media"] == {
        "sha256": done.json()["sha256"],
        "size_bytes": len(data),
        "filename": "clip.mp4",
        "facts": None,
    }
    assert http.get(upload["links"]["self"]).json()["status"] == "used"


def test_after_a_break_the_missing_parts_have_new_addresses(http: httpx2.Client, store: Bucket) -> None:
    data = os.urandom(3 * PART)
    upload = begin(http, len(data))
    assert put(upload["parts"][1], data) == 200
    assert code(complete(http, upload)) == (409, "parts_missing")
    assert complete(http, upload).json()["missing"] == [1, 3]
    again = http.get(upload["links"]["self"]).json()
    assert [part["received"] for part in again["parts"]] == [False, True, False]
    assert [part["url"] is None for part in again["parts"]] == [False, True, False]
    assert [put(part, data) for part in again["parts"] if part["url"]] == [200, 200]
    full = http.get(upload["links"]["self"]).json()
    assert full["urls_expire_at"] is None
    assert complete(http, upload).json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(store.names()) == 1


def test_the_storage_refuses_what_was_not_signed(http: httpx2.Client, store: Bucket) -> None:
    (part,) = begin(http)["parts"]
    for size in (0, 999, 1001, PART):
        sent = httpx2.put(part["url"], content=bytes(size), timeout=30, trust_env=False)
        assert sent.status_code == 403
    beyond = part["url"].replace("partNumber=1", "partNumber=2")
    assert httpx2.put(beyond, content=bytes(1000), trust_env=False).status_code == 403
    assert store.names() == set()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_another_owner_sees_and_does_nothing(
    http: httpx2.Client, address: tuple[str, int], store: Bucket, method: str
) -> None:
    assert store.names() == set()
    upload = begin(http)
    with client(address, make_key("bob")) as bob:
        assert code(bob.request(method, upload["links"]["self"])) == (404, "upload_not_found")
        assert code(complete(bob, upload)) == (404, "upload_not_found")
        assert code(bob.post("/v1/analyses", json={"upload_id": upload["id"]})) == (404, "upload_not_found")
        assert code(http.request(method, f"{URL}/{uuid4()}")) == (404, "upload_not_found")
    with client(address, make_key("alice", Scope.ANALYSES_READ)) as reader:
        assert code(reader.get(upload["links"]["self"])) == (403, "forbidden")
        assert code(reader.post(URL, json={"size_bytes": 1})) == (403, "forbidden")
    assert http.get(upload["links"]["self"]).json()["status"] == "open"


def test_a_wrong_checksum_drops_the_file(http: httpx2.Client, store: Bucket) -> None:
    upload = begin(http, sha256="AB" * 32)
    assert upload["sha256"] == "ab" * 32
    put(upload["parts"][0], bytes(1000))
    response = complete(http, upload)
    assert code(response) == (422, "checksum_mismatch")
    assert response.json()["sha256"] == hashlib.sha256(bytes(1000)).hexdigest()
    assert store.names() == set()
    assert code(complete(http, upload)) == (409, "upload_aborted")
    assert code(http.get(upload["links"]["self"])) == (404, "upload_aborted")


def test_parts_may_be_named_and_are_compared(http: httpx2.Client, store: Bucket) -> None:
    upload = begin(http)
    sent = httpx2.put(upload["parts"][0]["url"], content=bytes(1000), trust_env=False)
    wrong = complete(http, upload, parts=[{"number": 1, "etag": '"nonsense"'}])
    assert code(wrong) == (409, "parts_changed")
    assert wrong.json()["changed"] == [1]
    both = [{"number": 1, "etag": sent.headers["etag"]}, {"number": 1, "etag": "other"}]
    assert code(complete(http, upload, parts=both)) == (409, "parts_changed")
    twice = [{"number": 1, "etag": sent.headers["etag"]}] * 2
    bodies: list[Any] = [
        {"parts": [{"number": "1", "etag": "a"}]},
        {"parts": {}},
        {"part": []},
    ]
    for body in bodies:
        assert code(http.post(upload["links"]["complete"], json=body)) == (422, "invalid_option")
    bad = http.post(upload["links"]["complete"], content=b"{", headers={"Content-Type": "application/json"})
    assert code(bad) == (400, "malformed_json")
    form = http.post(upload["links"]["complete"], data={"a": "b"})
    assert code(form) == (415, "unsupported_media_type")
    assert complete(http, upload, parts=twice).status_code == 200
    assert len(store.names()) == 1


def test_aborting_is_idempotent_and_final(http: httpx2.Client, store: Bucket) -> None:
    upload = begin(http)
    url = upload["parts"][0]["url"]
    for _ in range(2):
        response = http.delete(upload["links"]["self"])
        assert (response.status_code, response.content) == (204, b"")
    assert store.unfinished() == []
    assert httpx2.put(url, content=bytes(1000), trust_env=False).status_code == 404
    assert code(http.get(upload["links"]["self"])) == (404, "upload_aborted")
    assert code(complete(http, upload)) == (409, "upload_aborted")
    assert code(http.post("/v1/analyses", json={"upload_id": upload["id"]})) == (409, "upload_aborted")


def test_an_expired_upload_says_so(http: httpx2.Client, store: Bucket) -> None:
    upload = begin(http)
    put(upload["parts"][0], bytes(1000))
    with db.transaction() as session:
        session.execute(text("UPDATE uploads SET expires_at = now()"))
    found = http.get(upload["links"]["self"]).json()
    assert (found["status"], found["parts"]) == ("expired", [])
    assert code(complete(http, upload)) == (409, "upload_expired")
    assert code(http.post("/v1/analyses", json={"upload_id": upload["id"]})) == (409, "upload_expired")
    uploads.sweep()
    assert store.unfinished() == []
    assert code(http.get(upload["links"]["self"])) == (404, "upload_aborted")


def test_addresses_end_with_the_upload(http: httpx2.Client, store: Bucket) -> None:
    assert store.names() == set()
    upload = begin(http)
    with db.transaction() as session:
        session.execute(text("UPDATE uploads SET expires_at = now() + interval '2 minutes'"))
    found = http.get(upload["links"]["self"]).json()
    assert found["urls_expire_at"] == found["expires_at"]
    seconds = int(parse_qs(urlsplit(found["parts"][0]["url"]).query)["X-Amz-Expires"][0])
    assert 60 < seconds <= 120


def test_too_many_open_ones_are_refused(
    http: httpx2.Client, store: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(UPLOADS__OPEN=2, UPLOADS__PART_BYTES=PART)
    first, _ = begin(http), begin(http)
    response = http.post(URL, json={"size_bytes": 1})
    assert code(response) == (429, "too_many_open_uploads")
    assert response.json()["limit"] == 2
    http.delete(first["links"]["self"])
    begin(http)
    assert len(store.unfinished()) == 2


def test_only_so_many_addresses_at_once(
    http: httpx2.Client, store: Bucket, set_settings: Callable[..., None]
) -> None:
    assert store.names() == set()
    set_settings(UPLOADS__PART_BYTES=PART, LIMITS__MAX_UPLOAD_BYTES=300 * PART)
    upload = begin(http, 300 * PART)
    assert len(upload["parts"]) == 300
    assert [part["url"] is not None for part in upload["parts"]] == [True] * 256 + [False] * 44


def test_the_same_key_gives_the_same_upload_as_it_is_now(http: httpx2.Client, store: Bucket) -> None:
    wish = {"size_bytes": PART + 1, "filename": "a.mp4"}
    headers = {"Idempotency-Key": '"k"'}
    first = http.post(URL, json=wish, headers=headers)
    assert "idempotency-replayed" not in first.headers
    data = os.urandom(PART + 1)
    put(first.json()["parts"][0], data)
    second = http.post(URL, json=dict(reversed(wish.items())), headers=headers)
    assert (second.status_code, second.headers["idempotency-replayed"]) == (201, "true")
    assert second.headers["location"] == first.headers["location"]
    assert [part["received"] for part in second.json()["parts"]] == [True, False]
    assert put(second.json()["parts"][1], data) == 200
    assert complete(http, second.json()).status_code == 200
    third = http.post(URL, json=wish, headers=headers).json()
    assert (third["id"], third["status"], third["parts"]) == (first.json()["id"], "completed", [])
    assert code(http.post(URL, json={"size_bytes": 2}, headers=headers)) == (422, "idempotency_mismatch")
    submission = http.post("/v1/analyses", json={"upload_id": third["id"]}, headers=headers)
    assert code(submission) == (422, "idempotency_mismatch")
    http.delete(third["links"]["self"])
    assert code(http.post(URL, json=wish, headers=headers)) == (409, "upload_aborted")
    with db.transaction() as session:
        session.execute(text("DELETE FROM uploads"))
    assert code(http.post(URL, json=wish, headers=headers)) == (409, "upload_aborted")
    assert store.names() == set()
    kept = json.dumps([row.body for row in rows(IdempotencyKey)])
    assert "X-Amz" not in kept
    assert json.loads(kept) == [{"id": first.json()["id"]}]


def test_what_fails_on_the_way_leaves_no_parts(http: httpx2.Client, store: Bucket) -> None:
    def fail(session: Session, *_: Any) -> None:
        if any(isinstance(row, Upload) for row in session.new):
            event.remove(Session, "before_flush", fail)
            raise OperationalError("INSERT", None, Exception("gone"))

    event.listen(Session, "before_flush", fail)
    response = http.post(URL, json={"size_bytes": 1}, headers={"Idempotency-Key": '"k"'})
    assert code(response) == (503, "database_unavailable")
    assert store.unfinished() == []
    assert rows(IdempotencyKey) == []


def test_a_storage_that_is_away_is_a_503(
    http: httpx2.Client, store: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StorageError

    upload = begin(http)
    put(upload["parts"][0], bytes(1000))
    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "parts", away)
        for response in (http.get(upload["links"]["self"]), complete(http, upload)):
            assert code(response) == (503, "storage_unavailable")
            assert int(response.headers["retry-after"]) >= 1
    assert complete(http, upload).status_code == 200
    assert len(store.names()) == 1


def test_no_log_line_has_an_address_or_a_name_in_the_storage(
    http: httpx2.Client,
    store: Bucket,
    logs: list[MutableMapping[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        upload = begin(http, sha256="0" * 64)
        http.get(upload["links"]["self"])
        put(upload["parts"][0], bytes(1000))
        complete(http, upload)
    ours = [record for record in caplog.records if not record.name.startswith("httpx2")]
    written = str(logs) + str([record.getMessage() for record in ours])
    assert "/v1/uploads" in written
    assert "X-Amz" not in written
    assert store.names() == set()


def test_the_document_tells_all_of_it(http: httpx2.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    create = paths[URL]["post"]
    assert set(paths[f"{URL}/{{upload_id}}"]) == {"get", "delete"}
    assert {"201", "400", "408", "409", "413", "415", "422", "429"} <= set(create["responses"])
    assert [one["name"] for one in create["parameters"]] == ["Idempotency-Key"]
    schema = create["requestBody"]["content"]["application/json"]["schema"]
    assert (schema["required"], schema["additionalProperties"]) == (["size_bytes"], False)
    body = paths[f"{URL}/{{upload_id}}/complete"]["post"]["requestBody"]
    assert body["required"] is False
    assert "$ref" not in json.dumps(body)
    assert "204" in paths[f"{URL}/{{upload_id}}"]["delete"]["responses"]
