"""Quotas of a key and room for its work, settled before a byte of the body."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from core import db
from core.keys import Scope
from core.models import Analysis
from tests.api.conftest import Bucket, client, make_key, rows, send
from tests.api.server import BOUNDARY, Raw, form, part, serving

URL = "/v1/analyses"
BODY = form(part("file", b"abc", filename="a.mp4"))
GIGABYTE = 1024**3


def promise(key: str, *more: str, length: int = GIGABYTE) -> tuple[str, ...]:
    """Headers of an upload whose body does not come."""
    content_type = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    return (f"Authorization: Bearer {key}", content_type, f"Content-Length: {length}", *more)


@pytest.fixture
def api(database: str, bucket: str) -> Iterator[tuple[str, int]]:
    """An API of this test's own: it remembers nothing of others."""
    assert database
    assert bucket
    with serving() as address:
        yield address


@pytest.fixture
def caller(api: tuple[str, int], key: str) -> Iterator[httpx2.Client]:
    with client(api, key) as opened:
        yield opened


def test_every_answer_says_what_is_left(caller: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(ADMISSION__REQUESTS=50, ADMISSION__SUBMISSIONS=9, ADMISSION__IN_FLIGHT=7)
    first, second = caller.get(URL), caller.get("/v1/nothing")
    assert first.headers["ratelimit-policy"] == (
        '"requests";q=50;w=60, "submissions";q=9;w=60, "in-flight";q=7;qu="concurrent-requests"'
    )
    assert re.fullmatch(r'"requests";r=49;t=[12]', first.headers["ratelimit"])
    assert re.fullmatch(r'"requests";r=48;t=[12]', second.headers["ratelimit"])
    submitted = send(caller, b"abc")
    assert submitted.status_code == 202
    left = submitted.headers["ratelimit"]
    assert re.fullmatch(r'"requests";r=47;t=[12], "submissions";r=8;t=[1-7], "in-flight";r=7', left)


def test_what_needs_no_key_has_no_quota(caller: httpx2.Client) -> None:
    for path in ("/healthz", "/", "/openapi.json"):
        assert "ratelimit" not in caller.get(path).headers
    stranger = caller.get(URL, headers={"Authorization": ""})
    assert stranger.status_code == 401
    assert "ratelimit" not in stranger.headers


def test_an_empty_quota_is_a_429_that_says_when(
    caller: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__REQUESTS=2, ADMISSION__WINDOW="PT1H")
    assert [caller.get(URL).status_code for _ in range(2)] == [200, 200]
    refused = caller.get(URL)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (429, "quota_exceeded")
    assert problem["violated-policies"] == ["requests"]
    reset = re.fullmatch(r'"requests";r=0;t=(\d+)', refused.headers["ratelimit"])
    assert reset is not None
    assert int(refused.headers["retry-after"]) >= int(reset[1]) > 1700
    assert refused.headers["content-type"] == "application/problem+json"


def test_thirty_requests_at_once_get_the_quota_and_no_more(
    caller: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__REQUESTS=10, ADMISSION__WINDOW="PT1H")
    with ThreadPoolExecutor(30) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda _: caller.get(URL), range(30))]
    assert sorted(statuses) == [200] * 10 + [429] * 20


def test_processes_share_the_quota(api: tuple[str, int], key: str, set_settings: Callable[..., None]) -> None:
    set_settings(ADMISSION__REQUESTS=2, ADMISSION__WINDOW="PT1H")
    with serving() as other, client(api, key) as here, client(other, key) as there:
        answers = [here.get(URL), there.get(URL), here.get(URL), there.get(URL)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


def test_a_refused_upload_is_never_told_to_go_on(
    api: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__SUBMISSIONS=1, ADMISSION__WINDOW="PT1H")
    with client(api, key) as caller:
        assert send(caller, b"abc").status_code == 202
    before = media.names()
    with Raw(api) as raw:
        raw.head(*promise(key, "Expect: 100-continue"))
        status, headers, problem = raw.answer()
        assert (status, problem["violated-policies"]) == (429, ["submissions"])
        assert headers["connection"] == "close"
        assert raw.closed()
    assert media.names() == before


def test_a_welcome_upload_is_told_to_go_on(api: tuple[str, int], key: str, media: Bucket) -> None:
    assert media
    with Raw(api) as raw:
        raw.head(*promise(key, "Expect: 100-continue", length=len(BODY)))
        assert raw.file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert raw.file.readline() == b"\r\n"
        raw.send(BODY)
        assert raw.answer()[0] == 202


def test_too_many_open_analyses_refuse_the_next_before_its_body(
    api: tuple[str, int], caller: httpx2.Client, key: str, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__IN_FLIGHT=1)
    first = send(caller, b"abc")
    assert first.status_code == 202
    with Raw(api) as raw:
        raw.head(*promise(key, "Expect: 100-continue"))
        status, headers, problem = raw.answer()
    assert (status, problem["code"], headers["retry-after"]) == (429, "too_many_in_flight", "10")
    assert '"in-flight";r=0' in headers["ratelimit"]
    assert caller.get(URL).status_code == 200, "looking is no submission"
    assert caller.post(f"{first.headers['location']}/cancel").status_code == 200
    assert send(caller, b"abc").status_code == 202


def test_submissions_at_once_do_not_overrun_the_limit(
    caller: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__IN_FLIGHT=3, ADMISSION__UPLOADS=30)
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: send(caller, b"clip %d" % n), range(30)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [202] * 3 + [429] * 27
    assert len(rows(Analysis)) == 3
    assert len(media.names()) == 3, "what was refused late was stored, and has to go again"


def test_a_stored_answer_is_given_again_whatever_is_full(
    caller: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__IN_FLIGHT=1, ADMISSION__QUEUED=1)
    once = {"Idempotency-Key": '"once"'}
    sent = [caller.post(URL, files={"file": ("a.mp4", b"abc")}, headers=once) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [202, 202]
    assert sent[1].headers["idempotency-replayed"] == "true"
    assert sent[0].json()["id"] == sent[1].json()["id"]
    other = caller.post(URL, files={"file": ("a.mp4", b"abc")}, headers={"Idempotency-Key": '"two"'})
    assert (other.status_code, other.json()["code"]) == (429, "too_many_in_flight")
    broken = caller.post(URL, files={"file": ("a.mp4", b"abc")}, headers={"Idempotency-Key": "a b"})
    assert broken.status_code == 429


@contextmanager
def uploads_under_way(api: tuple[str, int], key: str, count: int) -> Iterator[list[Raw]]:
    """Uploads that have begun and wait for their senders."""
    opened = [Raw(api) for _ in range(count)]
    try:
        for raw in opened:
            raw.head(*promise(key, "Expect: 100-continue", length=len(BODY)))
            assert b" 100 " in raw.file.readline()
            assert raw.file.readline() == b"\r\n"
        yield opened
    finally:
        for raw in opened:
            raw.__exit__()


def test_a_key_has_so_many_uploads_at_once(
    api: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    assert media
    set_settings(ADMISSION__UPLOADS=2)
    with uploads_under_way(api, key, 2) as (first, _), Raw(api) as third:
        third.head(*promise(key, "Expect: 100-continue"))
        status, headers, problem = third.answer()
        assert (status, problem["code"], headers["retry-after"]) == (429, "too_many_uploads", "2")
        with client(api, make_key("bob")) as bob:
            assert send(bob, b"abc").status_code == 202
        first.send(BODY)
        assert first.answer()[0] == 202
        with client(api, key) as caller:
            assert send(caller, b"abc").status_code == 202, "the place is free again"


def test_uploads_of_all_keys_have_a_bound(
    api: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    assert media
    set_settings(ADMISSION__BODIES=1)
    with uploads_under_way(api, key, 1), client(api, make_key("bob")) as bob:
        refused = send(bob, b"abc")
        assert (refused.status_code, refused.json()["code"]) == (503, "server_busy")


def test_a_caller_who_hangs_up_leaves_the_place(
    api: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    assert media
    set_settings(ADMISSION__UPLOADS=1)
    with uploads_under_way(api, key, 1):
        pass
    tick = threading.Event()
    with client(api, key) as caller:
        statuses = iter(lambda: send(caller, b"abc").status_code, 202)
        for _, status in zip(range(100), statuses, strict=False):
            assert status == 429
            tick.wait(0.05)
        assert send(caller, b"abc").status_code == 202


def test_a_nearly_full_disk_takes_no_more(
    api: tuple[str, int], key: str, tmp_path: Path, set_settings: Callable[..., None]
) -> None:
    set_settings(TEMP_DIR=tmp_path, ADMISSION__MIN_FREE_BYTES=2**62)
    assert refused(api, key) == (503, "disk_full", "60")


def test_every_named_disk_is_looked_at(
    api: tuple[str, int], key: str, tmp_path: Path, set_settings: Callable[..., None]
) -> None:
    set_settings(ADMISSION__DISKS=f'["{tmp_path}", "{tmp_path}/gone"]', ADMISSION__MIN_FREE_BYTES=1)
    assert refused(api, key) == (503, "disk_full", "60"), "a disk that is not mounted has no room"


def test_a_disk_with_room_is_none_of_it(
    api: tuple[str, int], key: str, media: Bucket, tmp_path: Path, set_settings: Callable[..., None]
) -> None:
    assert media
    set_settings(TEMP_DIR=tmp_path, ADMISSION__DISKS=f'["{tmp_path}"]', ADMISSION__MIN_FREE_BYTES=1)
    with client(api, key) as caller:
        assert send(caller, b"abc").status_code == 202


def refused(api: tuple[str, int], key: str) -> tuple[int, str, str]:
    """Status, code and Retry-After of an upload that is not told to go on."""
    with Raw(api) as raw:
        raw.head(*promise(key, "Expect: 100-continue"))
        status, headers, problem = raw.answer()
        return status, problem["code"], headers["retry-after"]


def test_a_storage_that_is_away_refuses_before_the_body(
    api: tuple[str, int], key: str, set_settings: Callable[..., None]
) -> None:
    set_settings(S3__ENDPOINT_URL="http://127.0.0.1:1")
    assert refused(api, key) == (503, "storage_unavailable", "5")
    with client(api, key) as caller:
        assert caller.get(URL).status_code == 200, "looking needs no storage"


def test_a_missing_bucket_refuses_before_the_body(
    api: tuple[str, int], key: str, set_settings: Callable[..., None]
) -> None:
    set_settings(S3__BUCKET="not-there")
    assert refused(api, key)[:2] == (503, "storage_unavailable")


def test_a_full_queue_takes_no_more_of_anybody(
    api: tuple[str, int], caller: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    assert media
    set_settings(ADMISSION__QUEUED=1)
    with serving() as other, client(other, make_key("bob")) as bob:
        assert send(bob, b"abc").status_code == 202
    assert refused(api, make_key("carol")) == (503, "server_busy", "30")
    assert caller.get(URL).status_code == 200


@pytest.mark.usefixtures("media")
def test_a_dead_broker_refuses_nothing(caller: httpx2.Client, set_settings: Callable[..., None]) -> None:
    set_settings(BROKER_URL="redis://127.0.0.1:1/0")
    assert send(caller, b"abc").status_code == 202
    assert caller.get("/readyz").json()["components"]["broker"]["status"] == "degraded"


def test_a_database_that_is_away_lets_nobody_in_and_nobody_off(
    caller: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none", ADMISSION__REQUESTS=1)
    answer = caller.get(URL)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "ratelimit" not in answer.headers


def test_a_lost_table_of_quotas_does_not_open_the_door(caller: httpx2.Client) -> None:
    with db.transaction() as session:
        session.execute(text("ALTER TABLE rate_limits RENAME TO rate_limits_gone"))
    try:
        assert caller.get(URL).status_code == 500
    finally:
        with db.transaction() as session:
            session.execute(text("ALTER TABLE rate_limits_gone RENAME TO rate_limits"))
    assert caller.get(URL).status_code == 200


def test_a_key_that_may_not_write_learns_so_before_its_body(
    api: tuple[str, int], clean_database: str
) -> None:
    assert clean_database
    with Raw(api) as raw:
        raw.head(*promise(make_key("alice", Scope.ANALYSES_READ), "Expect: 100-continue"))
        assert raw.answer()[0] == 403


def test_every_refusal_is_in_the_document(caller: httpx2.Client) -> None:
    document: dict[str, Any] = caller.get("/openapi.json").json()
    submit = document["paths"][URL]["post"]["responses"]
    assert {"429", "503", "413", "431", "414", "400"} <= set(submit)
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(submit["429"]["headers"])
    assert {"RateLimit", "RateLimit-Policy"} <= set(submit["202"]["headers"])
    assert "RateLimit" not in submit["401"].get("headers", {})
    health = document["paths"]["/healthz"]["get"]["responses"]
    assert "429" not in health
