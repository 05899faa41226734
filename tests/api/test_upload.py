from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator

import httpx2
import pytest

from api.form import FIELD_BOUNDS
from api.upload import FORM_OVERHEAD
from core.config import MiB
from core.domain import Stage
from core.models import Analysis, Media, Step
from tests.api.conftest import Bucket, client, make_key, rows, send
from tests.api.server import BOUNDARY, Raw, form, part

URL = "/v1/analyses"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def test_a_small_file_is_accepted_and_owed(http: httpx2.Client, media: Bucket) -> None:
    content = secrets.token_bytes(5000)
    response = send(http, content, interval_seconds="1.5", frames_per_interval="3", metadata='{"case": 7}')
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"{URL}/{body['id']}" == body["links"]["self"]
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["etag"] == 'W/"1"'
    assert body["status"] == "queued"
    assert body["options"] == {
        "interval_seconds": 1.5,
        "frames_per_interval": 3,
        "operating_point": "balanced",
        "stability": False,
    }
    assert body["metadata"] == {"case": 7}
    assert body["media"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": 5000,
        "filename": "clip.mp4",
        "facts": None,
    }
    assert body["progress"] == {
        "fraction": 0.0,
        "stages": [{"stage": "extract", "status": "pending", "done": 0, "total": 1, "reasons": []}],
    }
    for unknown in ("verdict", "confidence", "report", "error", "started_at", "completed_at"):
        assert body[unknown] is None
    (stored,) = media.names()
    assert media.read(stored) == content
    assert [(step.stage, step.status) for step in rows(Step)] == [(Stage.EXTRACT.value, "pending")]


def test_a_file_of_many_parts_arrives_whole(http: httpx2.Client, media: Bucket) -> None:
    content = secrets.token_bytes(20 * MiB + 12_345)
    response = send(http, content)
    assert response.json()["media"]["sha256"] == hashlib.sha256(content).hexdigest()
    (stored,) = media.names()
    assert hashlib.sha256(media.read(stored)).digest() == hashlib.sha256(content).digest()


def test_the_same_bytes_of_one_owner_are_stored_once(
    http: httpx2.Client, address: tuple[str, int], media: Bucket
) -> None:
    content = secrets.token_bytes(9 * MiB)
    first, second = send(http, content, "a.mp4").json(), send(http, content, "b.mp4").json()
    assert first["id"] != second["id"]
    assert (first["media"]["filename"], second["media"]["filename"]) == ("a.mp4", "b.mp4")
    assert len(media.names()) == len(rows(Media)) == 1
    with client(address, make_key("bob")) as bob:
        assert send(bob, content).status_code == 202
    assert len(media.names()) == len(rows(Media)) == 2, "another owner's bytes are his own"
    assert {media.read(key) for key in media.names()} == {content}


def test_the_same_bytes_at_the_same_moment_are_stored_once(http: httpx2.Client, media: Bucket) -> None:
    content, answers = secrets.token_bytes(MiB), []
    threads = [
        threading.Thread(target=lambda: answers.append(send(http, content).status_code)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 6
    assert len(rows(Analysis)) == 6
    assert len(media.names()) == len(rows(Media)) == 1


def test_a_hostile_name_is_only_a_name(http: httpx2.Client, media: Bucket) -> None:
    response = send(http, b"x", "../../\u202eetc/pass\u202ewd.mp4")
    assert response.json()["media"]["filename"] == "passwd.mp4"
    (stored,) = media.names()
    assert "passwd" not in stored


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"interval_seconds": "0.5"}, "invalid_option"),
        ({"interval_seconds": "6"}, "invalid_option"),
        ({"frames_per_interval": "0"}, "invalid_option"),
        ({"metadata": "[1]"}, "invalid_metadata"),
        ({"metadata": '{"a": "' + "x" * FIELD_BOUNDS["metadata"] + '"}'}, "field_too_large"),
        ({"webhook": "https://example.org"}, "unknown_field"),
    ],
)
def test_a_wrong_field_keeps_nothing(
    http: httpx2.Client, media: Bucket, fields: dict[str, str], code: str
) -> None:
    response = send(http, secrets.token_bytes(9 * MiB), **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert media.names() == set()
    assert rows(Analysis) == rows(Media) == []


def test_an_unknown_field_after_the_file_keeps_nothing(http: httpx2.Client, media: Bucket) -> None:
    body = form(part("file", secrets.token_bytes(9 * MiB), filename="a"), part("surprise", "x"))
    response = http.post(URL, content=body, headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (422, "unknown_field")
    assert response.json()["field"] == "surprise"
    assert media.names() == set()


def test_an_empty_file_is_refused(http: httpx2.Client, media: Bucket) -> None:
    response = send(http, b"")
    assert (response.status_code, response.json()["code"]) == (422, "empty_file")
    assert media.names() == set()


def test_a_file_below_the_least_size_is_refused(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MIN_UPLOAD_BYTES=1000)
    response = send(http, b"x" * 999)
    assert (response.status_code, response.json()["code"]) == (422, "file_too_small")
    assert response.json()["limit_bytes"] == 1000
    assert media.names() == set()
    assert send(http, b"x" * 1000).status_code == 202


def test_the_size_limit_holds_to_the_byte(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=9 * MiB)
    response = send(http, bytes(9 * MiB + 1))
    assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
    assert response.json()["limit_bytes"] == 9 * MiB
    assert media.names() == set()
    assert send(http, bytes(9 * MiB)).status_code == 202


def test_a_long_body_is_refused_by_its_announced_length(
    address: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=1000)
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}", f"Content-Type: {CONTENT_TYPE}", "Content-Length: 999999999999"
        )
        status, headers, problem = raw.answer()
    assert (status, problem["code"]) == (413, "file_too_large")
    assert headers["connection"] == "close"
    assert media.names() == set()


def test_a_body_of_unknown_length_is_refused_while_it_streams(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=9 * MiB)

    def endless() -> Iterator[bytes]:
        yield part("file", b"", filename="a")[:-2]
        for _ in range(40):
            yield bytes(MiB)

    response = http.post(URL, content=endless(), headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
    assert media.names() == set()


def test_an_endless_epilogue_is_refused(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=1000)

    def chatty() -> Iterator[bytes]:
        yield form(part("file", b"small", filename="a"))
        for _ in range(FORM_OVERHEAD // 1000 + 2):
            yield b"x" * 1000

    response = http.post(URL, content=chatty(), headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert media.names() == set()


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": CONTENT_TYPE}, b"no form at all", 400, "malformed_upload"),
        ({"Content-Type": CONTENT_TYPE}, b"", 400, "malformed_upload"),
        (
            {"Content-Type": CONTENT_TYPE},
            form(part("file", b"abc", filename="a"))[:-6],
            400,
            "malformed_upload",
        ),
        ({"Content-Type": "multipart/form-data"}, form(), 400, "malformed_upload"),
        ({"Content-Type": CONTENT_TYPE}, form(), 422, "missing_source"),
        ({"Content-Type": CONTENT_TYPE}, form(part("file", b"abc")), 422, "not_a_file"),
        ({"Content-Type": "video/mp4"}, b"abc", 415, "unsupported_media_type"),
        ({}, b"abc", 415, "unsupported_media_type"),
        ({"Content-Type": CONTENT_TYPE, "Content-Encoding": "gzip"}, b"abc", 415, "unsupported_media_type"),
    ],
)
def test_what_is_no_form_is_refused(
    http: httpx2.Client, media: Bucket, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    response = http.post(URL, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert media.names() == set()


def test_a_content_length_that_is_too_short_is_malformed(
    address: tuple[str, int], key: str, media: Bucket
) -> None:
    body = form(part("file", b"abc" * 100, filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body) - 9}",
        )
        raw.send(body)
        status, _, problem = raw.answer()
    assert (status, problem["code"]) == (400, "malformed_upload")
    assert media.names() == set()
