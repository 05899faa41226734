"""The three sources of a submission, in a form and in JSON: exactly one of them, and what comes of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from core import db
from core.config import MiB
from core.models import Analysis, IdempotencyKey, Media, Step, Upload
from tests.api.conftest import Bucket, client, make_key, rows, send
from tests.api.server import BOUNDARY, Raw, form, part

URL = "/v1/analyses"
REMOTE = "https://media.example.org/clip.mp4?token=abc"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def code(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def uploaded(http: httpx2.Client, data: bytes, name: str = "part.mp4") -> str:
    """Id of a completed upload."""
    upload = http.post("/v1/uploads", json={"size_bytes": len(data), "filename": name}).json()
    (only,) = upload["parts"]
    assert httpx2.put(only["url"], content=data, timeout=30, trust_env=False).status_code == 200
    assert http.post(upload["links"]["complete"]).status_code == 200
    identity: str = upload["id"]
    return identity


def submit_form(http: httpx2.Client, *parts: bytes) -> httpx2.Response:
    return http.post(URL, content=form(*parts), headers=FORM)


def test_an_address_is_accepted_and_nothing_is_fetched_yet(http: httpx2.Client, media: Bucket) -> None:
    asked = {"source_url": "HTTPS://Media.Example.ORG:443/clip.mp4?token=abc", "lane": "batch"}
    for response in (
        http.post(URL, json=asked),
        submit_form(http, *(part(name, value) for name, value in asked.items())),
        submit_form(http, part("lane", "batch"), part("source_url", asked["source_url"])),
    ):
        assert response.status_code == 202, response.text
        found = response.json()
        assert response.headers["location"] == found["links"]["self"]
        assert (found["status"], found["media"], found["source_url"]) == ("queued", None, REMOTE)
        assert found["lane"] == "batch"
        assert http.get(found["links"]["self"]).json()["media"] is None
    assert [item["media"] for item in http.get(URL).json()["items"]] == [None] * 3
    assert [step.stage for step in rows(Step)] == ["extract"] * 3
    assert media.names() == set()
    assert rows(Media) == []


def test_no_address_is_taken_where_it_is_switched_off(
    http: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(SOURCE_URL__ENABLED="false")
    assert code(http.post(URL, json={"source_url": REMOTE})) == (422, "source_url_disabled")
    assert code(submit_form(http, part("source_url", REMOTE))) == (422, "source_url_disabled")
    assert rows(Analysis) == []


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "x",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "//example.org/a",
        "https://",
        "https://user:secret@example.org/a",
        "http://127.0.0.1/a",
        "http://2130706433/a",
        "http://0x7f.1/a",
        "http://[::1]/a",
        "http://[::ffff:169.254.169.254]/a",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a",
        "http://localhost/a",
        "http://example.org:22/a",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: evil",
        "https://example.org/" + "a" * 2100,
    ],
)
def test_an_address_that_must_not_be_called_is_refused_at_once(http: httpx2.Client, remote: str) -> None:
    assert code(http.post(URL, json={"source_url": remote})) == (422, "unsafe_url")
    sent = submit_form(http, part("source_url", remote))
    assert code(sent) in {(422, "unsafe_url"), (422, "field_too_large")}
    assert rows(Analysis) == []


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, "missing_source"),
        ({"lane": "batch"}, "missing_source"),
        ({"source_url": REMOTE, "upload_id": str(uuid4())}, "several_sources"),
        ({"file": "YWJj"}, "not_a_file"),
        ({"source_url": 1}, "invalid_option"),
        ({"source_url": None}, "invalid_option"),
        ({"source_url": [REMOTE]}, "invalid_option"),
        ({"upload_id": "1"}, "invalid_option"),
        ({"upload_id": f"{{{uuid4()}}}"}, "invalid_option"),
        ({"upload_id": uuid4().hex}, "invalid_option"),
        ({"source_url": REMOTE, "interval_seconds": "2"}, "invalid_option"),
        ({"source_url": REMOTE, "interval_seconds": 0.5}, "invalid_option"),
        ({"source_url": REMOTE, "interval_seconds": True}, "invalid_option"),
        ({"source_url": REMOTE, "interval_seconds": None}, "invalid_option"),
        ({"source_url": REMOTE, "frames_per_interval": 2.5}, "invalid_option"),
        ({"source_url": REMOTE, "lane": "express"}, "invalid_option"),
        ({"source_url": REMOTE, "lane": 1}, "invalid_option"),
        ({"source_url": REMOTE, "deadline_seconds": 9}, "invalid_option"),
        ({"source_url": REMOTE, "retention_hours": -1}, "invalid_option"),
        ({"source_url": REMOTE, "retention_hours": "0"}, "invalid_option"),
        ({"source_url": REMOTE, "metadata": []}, "invalid_metadata"),
        ({"source_url": REMOTE, "metadata": "{}"}, "invalid_metadata"),
        ({"source_url": REMOTE, "metadata": None}, "invalid_metadata"),
        ({"source_url": REMOTE, "metadata": {"a": ["\0"]}}, "invalid_metadata"),
        ({"source_url": REMOTE, "metadata": {"\0": 1}}, "invalid_metadata"),
        ({"source_url": REMOTE + "\0"}, "unsafe_url"),
        ({"upload_id": "\0"}, "invalid_option"),
        ({"source_url": REMOTE, "metadata": {"a": "x" * 17_000}}, "field_too_large"),
        ({"source_url": REMOTE, "webhook": "https://example.org"}, "unknown_field"),
        ({"source_url": REMOTE, "owner": "bob"}, "unknown_field"),
    ],
)
def test_a_wrong_object_is_refused(http: httpx2.Client, members: dict[str, Any], expected: str) -> None:
    assert code(http.post(URL, json=members)) == (422, expected)
    assert rows(Analysis) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"source_url": "a", "source_url": "b"}', b'{"metadata": {"a": NaN}}', b"[" * 9000],
)
def test_a_body_that_is_no_object_is_refused(http: httpx2.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert code(http.post(URL, content=body, headers=headers)) == (400, "malformed_json")


def test_an_endless_object_is_refused(http: httpx2.Client) -> None:
    response = http.post(URL, json={"metadata": {"a": "x" * 200_000}})
    assert code(response) == (413, "body_too_large")


def test_an_object_says_all_that_a_form_can(http: httpx2.Client) -> None:
    asked = {
        "source_url": REMOTE,
        "interval_seconds": 3,
        "frames_per_interval": 7.0,
        "operating_point": "fpr_1",
        "stability": True,
        "lane": "interactive",
        "deadline_seconds": 60,
        "retention_hours": 0,
        "metadata": {"case": [1, {"a": None}]},
    }
    by_object = http.post(URL, json=asked).json()
    values = [part(n, json.dumps(v) if n == "metadata" else str(v)) for n, v in asked.items() if n[0] != "f"]
    by_form = submit_form(http, *values, part("frames_per_interval", "7")).json()
    same = ("options", "metadata", "lane", "source_url", "retention")
    assert {name: by_object[name] for name in same} == {name: by_form[name] for name in same}
    assert by_object["options"] == {
        "interval_seconds": 3.0,
        "frames_per_interval": 7,
        "operating_point": "fpr_1",
        "stability": True,
    }
    assert by_object["retention"]["hours"] == 0
    stored = rows(Analysis)[0]
    assert (stored.deadline - stored.created_at).total_seconds() == pytest.approx(60, abs=1)


def test_absent_terms_may_be_null(http: httpx2.Client) -> None:
    asked = {"source_url": REMOTE, "deadline_seconds": None, "retention_hours": None, "webhook_url": None}
    assert http.post(URL, json=asked).status_code == 202


@pytest.mark.parametrize("deadline", [10**12, 10**300])
def test_more_time_than_there_is_becomes_what_there_is(http: httpx2.Client, deadline: int) -> None:
    assert http.post(URL, json={"source_url": REMOTE, "deadline_seconds": deadline}).status_code == 202
    assert send(http, b"x", deadline_seconds="9" * 32).status_code == 202


def test_a_form_with_two_sources_is_refused_before_its_file_is_stored(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    content = os.urandom(9 * MiB)
    for parts in (
        [part("file", content, filename="a"), part("source_url", REMOTE)],
        [part("upload_id", str(uuid4())), part("source_url", REMOTE)],
        [part("upload_id", str(uuid4())), part("file", content, filename="a")],
    ):
        assert code(submit_form(http, *parts)) == (422, "several_sources")
    with Raw(address) as raw:  # which is told at the file's head, long before its end
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {FORM['Content-Type']}",
            "Content-Length: 99999999",
        )
        raw.send(part("source_url", REMOTE) + part("file", bytes(2 * MiB), filename="a"))
        status, _, problem = raw.answer()
    assert (status, problem["code"]) == (422, "several_sources")
    assert media.names() == set()
    assert rows(Analysis) == []


def test_an_upload_is_used_by_one_analysis(
    http: httpx2.Client, address: tuple[str, int], media: Bucket
) -> None:
    data = os.urandom(5000)
    identity = uploaded(http, data)
    with client(address, make_key("bob")) as bob:
        assert code(bob.post(URL, json={"upload_id": identity})) == (404, "upload_not_found")
    first = submit_form(http, part("upload_id", identity), part("interval_seconds", "3"))
    assert first.status_code == 202
    assert first.json()["media"]["filename"] == "part.mp4"
    assert first.json()["options"]["interval_seconds"] == 3.0
    assert code(http.post(URL, json={"upload_id": identity})) == (409, "upload_used")
    assert code(http.post(URL, json={"upload_id": str(uuid4())})) == (404, "upload_not_found")
    assert code(http.delete(f"/v1/uploads/{identity}")) == (409, "upload_used")
    (row,) = rows(Upload)
    assert str(row.analysis_id) == first.json()["id"]
    assert {media.read(name) for name in media.names()} == {data}
    assert len(rows(Analysis)) == len(rows(Media)) == 1


def test_an_upload_that_is_not_completed_is_no_source(http: httpx2.Client, media: Bucket) -> None:
    identity = http.post("/v1/uploads", json={"size_bytes": 5}).json()["id"]
    assert code(http.post(URL, json={"upload_id": identity})) == (409, "upload_not_completed")
    http.delete(f"/v1/uploads/{identity}")
    assert media.unfinished() == []


def test_of_many_submissions_at_once_one_has_the_upload(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    identity = uploaded(http, b"x" * 100)
    together = threading.Barrier(5)

    def race(_: int) -> int:
        with client(address, key) as mine:
            together.wait()
            return mine.post(URL, json={"upload_id": identity}).status_code

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(race, range(5))) == [202, 409, 409, 409, 409]
    assert len(rows(Analysis)) == len(media.names()) == 1


def test_the_same_bytes_by_two_doors_are_stored_once(http: httpx2.Client, media: Bucket) -> None:
    data = os.urandom(3000)
    first = send(http, data, "a.mp4").json()
    (name,) = media.names()
    second = http.post(URL, json={"upload_id": uploaded(http, data)}).json()
    assert second["media"]["sha256"] == first["media"]["sha256"]
    assert second["media"]["filename"] == "part.mp4"
    assert media.names() == {name}
    assert len(rows(Media)) == 1


def test_bytes_that_were_erased_come_back_by_an_upload(http: httpx2.Client, media: Bucket) -> None:
    data = os.urandom(3000)
    send(http, data)
    (old,) = media.names()
    media.remove(old)
    with db.transaction() as session:
        session.execute(text("UPDATE media SET erased_at = now()"))
    assert http.post(URL, json={"upload_id": uploaded(http, data)}).status_code == 202
    (name,) = media.names()
    (row,) = rows(Media)
    assert (row.object_key, row.erased_at) == (name, None)
    assert media.read(name) == data


def test_a_wrong_option_does_not_use_the_upload_up(http: httpx2.Client, media: Bucket) -> None:
    identity = uploaded(http, b"abc")
    wrong = http.post(URL, json={"upload_id": identity, "interval_seconds": 99})
    assert code(wrong) == (422, "invalid_option")
    assert http.post(URL, json={"upload_id": identity}).status_code == 202
    assert len(media.names()) == 1


def test_a_repeated_wish_gives_the_first_answer_whatever_the_door(http: httpx2.Client, media: Bucket) -> None:
    wishes = [{"source_url": REMOTE}, {"upload_id": uploaded(http, b"abc")}]
    for number, wish in enumerate(wishes):
        headers = {"Idempotency-Key": f'"{number}"'}
        first = http.post(URL, json=wish, headers=headers)
        again = http.post(URL, json=wish, headers=headers)
        ((name, value),) = wish.items()
        by_form = http.post(URL, content=form(part(name, value)), headers={**FORM, **headers})
        assert first.status_code == 202
        assert again.json() == by_form.json() == first.json()
        assert again.headers["idempotency-replayed"] == by_form.headers["idempotency-replayed"] == "true"
    for other in ({"source_url": REMOTE + "&b"}, wishes[1], {**wishes[0], "lane": "batch"}):
        response = http.post(URL, json=other, headers={"Idempotency-Key": '"0"'})
        assert code(response) == (422, "idempotency_mismatch")
    assert len(rows(Analysis)) == 2
    assert len(media.names()) == 1


def test_a_refused_source_leaves_the_key_free(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": '"k"'}
    assert code(http.post(URL, json={"upload_id": str(uuid4())}, headers=headers)) == (
        404,
        "upload_not_found",
    )
    assert code(http.post(URL, json={"source_url": "http://10.0.0.1/"}, headers=headers))[0] == 422
    assert rows(IdempotencyKey) == []
    assert http.post(URL, json={"source_url": REMOTE}, headers=headers).status_code == 202


def test_the_document_has_both_bodies_and_exactly_one_source(http: httpx2.Client) -> None:
    content = http.get("/openapi.json").json()["paths"][URL]["post"]["requestBody"]["content"]
    schemas = {kind: found["schema"] for kind, found in content.items()}
    assert set(schemas) == {"multipart/form-data", "application/json"}
    for kind, named in (("multipart/form-data", ["file"]), ("application/json", [])):
        sources = [choice["required"] for choice in schemas[kind]["oneOf"]]
        assert all(
            set(choice["properties"]) & {"file", "upload_id", "source_url"} == set(choice["required"])
            for choice in schemas[kind]["oneOf"]
        )
        assert sources == [[source] for source in [*named, "upload_id", "source_url"]]
        assert "$ref" not in json.dumps(schemas[kind])
    asked, typed = (
        schemas[kind]["oneOf"][-1]["properties"] for kind in ("multipart/form-data", "application/json")
    )
    assert set(asked) == set(typed)
    assert (asked["metadata"]["type"], typed["metadata"]["type"]) == ("string", "object")
