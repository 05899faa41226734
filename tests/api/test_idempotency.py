"""`Idempotency-Key` on a submission: replay, mismatch, races, lost callers and killed servers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import db, idempotency
from core.config import MiB
from core.idempotency import Claim
from core.keys import Scope
from core.models import Analysis, IdempotencyKey, Media, Step
from tests.api.conftest import Bucket, client, make_key, rows
from tests.api.server import BOUNDARY, Raw, eventually, form, part, serving

URL = "/v1/analyses"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
CONTENT = b"the same bytes" * 100
pytestmark = pytest.mark.usefixtures("media")


def send(
    http: httpx2.Client, key: str, content: bytes = CONTENT, name: str = "a.mp4", **fields: str
) -> httpx2.Response:
    return http.post(
        URL, files={"file": (name, content)}, data=fields, headers={"Idempotency-Key": f'"{key}"'}
    )


def began(raw: Raw, key: str, used: str) -> None:
    """An upload of 20 MiB of which 9 MiB are sent."""
    raw.head(
        f"Authorization: Bearer {key}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {20 * MiB}",
        f'Idempotency-Key: "{used}"',
    )
    raw.send(part("file", bytes(9 * MiB), filename="a")[:-2])


def code(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_the_same_request_gets_the_first_answer_again(http: httpx2.Client, media: Bucket) -> None:
    first = send(http, "k", interval_seconds="3", metadata='{"a": 1, "b": [2]}')
    assert first.status_code == 202
    assert "idempotency-replayed" not in first.headers
    with db.transaction() as session:  # time goes on: the replay is what was said then
        session.execute(text("UPDATE analyses SET status = 'processing', version = 7"))
    second = send(http, "k", interval_seconds="3.0", metadata='{"b": [2], "a": 1}')
    assert (second.status_code, second.json()) == (202, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    for name in ("location", "etag", "retry-after", "cache-control", "content-type"):
        assert second.headers[name] == first.headers[name]
    assert len(rows(Analysis)) == len(rows(Step)) == len(rows(Media)) == len(media.names()) == 1


def test_quoted_or_bare_it_is_the_same_key(http: httpx2.Client) -> None:
    first = send(http, "k")
    files = {"file": ("a.mp4", CONTENT)}
    second = http.post(URL, files=files, headers={"Idempotency-Key": "k"})
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"content": b"other bytes"},
        {"name": "b.mp4"},
        {"interval_seconds": "4"},
        {"frames_per_interval": "7"},
        {"metadata": '{"a": 2}'},
    ],
)
def test_another_payload_is_refused_and_leaves_nothing(
    http: httpx2.Client, media: Bucket, change: dict[str, Any]
) -> None:
    first = send(http, "k")
    objects = media.names()
    assert code(send(http, "k", **change)) == (422, "idempotency_mismatch")
    assert media.names() == objects
    assert len(rows(Analysis)) == 1
    assert send(http, "k").json() == first.json()


def test_without_a_key_or_with_another_each_request_is_its_own(http: httpx2.Client) -> None:
    ids = {send(http, key).json()["id"] for key in ("a", "b")}
    ids |= {http.post(URL, files={"file": ("a.mp4", CONTENT)}).json()["id"] for _ in range(2)}
    assert len(ids) == len(rows(Analysis)) == 4
    assert len(rows(IdempotencyKey)) == 2


def test_another_owner_with_the_same_key_is_independent(
    http: httpx2.Client, address: tuple[str, int]
) -> None:
    mine = send(http, "k")
    with client(address, make_key("bob")) as bob:
        his = send(bob, "k", b"something else")
        assert his.status_code == 202
        assert his.json()["id"] != mine.json()["id"]
        assert send(bob, "k", b"something else").json() == his.json()
    with client(address, make_key("alice")) as again:  # another API key of the same owner
        assert send(again, "k").json() == mine.json()


@pytest.mark.parametrize("value", ["", '""', '"a', "a b", "a,b", "x" * 256, '"é"'])
def test_a_malformed_key_is_refused_before_the_body_is_read(
    http: httpx2.Client, media: Bucket, value: str
) -> None:
    headers = {b"Idempotency-Key": value.encode()}
    response = http.post(URL, files={"file": ("a.mp4", CONTENT)}, headers=headers)
    assert code(response) == (400, "invalid_idempotency_key")
    assert media.names() == set()
    assert rows(IdempotencyKey) == []


def test_two_keys_in_one_request_are_none(http: httpx2.Client) -> None:
    headers = [("Idempotency-Key", '"a"'), ("Idempotency-Key", '"a"')]
    response = http.post(URL, files={"file": ("a.mp4", CONTENT)}, headers=headers)
    assert code(response) == (400, "invalid_idempotency_key")


def test_many_at_once_make_one_analysis(address: tuple[str, int], key: str, media: Bucket) -> None:
    together = threading.Barrier(6)

    def race(_: int) -> httpx2.Response:
        with client(address, key) as http:
            together.wait()
            return send(http, "k", bytes(3 * MiB))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(race, range(6)))
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(set(accepted)) == 1
    assert all(code(answer) == (409, "idempotency_in_progress") for answer in refused)
    assert len(rows(Analysis)) == len(rows(Step)) == len(media.names()) == 1
    with client(address, key) as http:
        assert send(http, "k", bytes(3 * MiB)).json()["id"] == accepted[0]


def test_while_the_first_is_sending_the_second_is_told_when_to_come(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    body = form(part("file", bytes(9 * MiB), filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            'Idempotency-Key: "k"',
        )
        raw.send(body[:-10])
        assert eventually(lambda: media.unfinished() != [])
        second = send(http, "k")
        assert code(second) == (409, "idempotency_in_progress")
        assert 1 <= int(second.headers["retry-after"]) == second.json()["retry_after"] <= 5
        raw.send(body[-10:])
        status, headers, first = raw.answer()
        assert (status, headers["location"]) == (202, f"{URL}/{first['id']}")
    assert send(http, "k", bytes(9 * MiB), "a").json() == first


def test_a_caller_who_hangs_up_can_try_again_at_once(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    with Raw(address) as raw:
        began(raw, key, "k")
        assert eventually(lambda: media.unfinished() != [])
        assert len(rows(IdempotencyKey)) == 1
    assert eventually(lambda: rows(IdempotencyKey) == [])
    assert eventually(lambda: media.unfinished() == [])
    assert send(http, "k").status_code == 202


def test_a_refused_request_does_not_use_the_key_up(http: httpx2.Client) -> None:
    assert code(send(http, "k", b"")) == (422, "empty_file")
    assert code(send(http, "k", interval_seconds="99")) == (422, "invalid_option")
    response = http.post(URL, content=b"x", headers={"Idempotency-Key": '"k"', "Content-Type": "text/plain"})
    assert code(response) == (415, "unsupported_media_type")
    assert rows(IdempotencyKey) == []
    assert send(http, "k").status_code == 202


def test_a_slow_upload_keeps_its_key_by_renewing_it(
    address: tuple[str, int], key: str, http: httpx2.Client, set_settings: Callable[..., None]
) -> None:
    set_settings(IDEMPOTENCY_LEASE="PT0.6S")
    with Raw(address) as raw:
        began(raw, key, "k")
        assert eventually(lambda: rows(IdempotencyKey) != [])
        (first,) = rows(IdempotencyKey)
        assert eventually(lambda: rows(IdempotencyKey)[0].lease_expires > first.lease_expires)
        (later,) = rows(IdempotencyKey)
        assert later.holder == first.holder
        assert eventually(lambda: rows(IdempotencyKey)[0].lease_expires > later.lease_expires)
        assert code(send(http, "k")) == (409, "idempotency_in_progress")
    assert eventually(lambda: rows(IdempotencyKey) == [])


def test_a_holder_that_was_taken_over_accepts_nothing(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    body = form(part("file", bytes(9 * MiB), filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            'Idempotency-Key: "k"',
        )
        raw.send(body[:-10])
        assert eventually(lambda: media.unfinished() != [])
        with db.transaction() as session:  # as if its database had been away for longer than the lease
            session.execute(text("UPDATE idempotency_keys SET lease_expires = now() - interval '1 s'"))
        winner = send(http, "k")
        assert winner.status_code == 202
        raw.send(body[-10:])
        status, _, problem = raw.answer()
        assert (status, problem["code"]) == (409, "idempotency_in_progress")
    assert [str(row.id) for row in rows(Analysis)] == [winner.json()["id"]]
    assert len(media.names()) == 1
    assert send(http, "k").json() == winner.json()


KILLED_API = """
from tests.api.server import serving
with serving() as address:
    print(*address, flush=True)
    input()
"""


def test_a_killed_server_blocks_the_key_no_longer_than_a_lease(
    key: str, http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(IDEMPOTENCY_LEASE="PT2S")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_API], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        host, port = other.stdout.readline().split()
        with Raw((host, int(port))) as raw:
            began(raw, key, "k")
            assert eventually(lambda: media.unfinished() != [])
            other.kill()
            other.wait()
    assert len(rows(IdempotencyKey)) == 1, "it left its claim behind"
    assert eventually(lambda: send(http, "k").status_code == 202)
    assert len(rows(Analysis)) == 1
    media.abort_unfinished()


def test_the_answer_outlives_the_server(key: str) -> None:
    with serving() as address, client(address, key) as http:
        first = send(http, "k")
    with serving() as address, client(address, key) as http:
        second = send(http, "k")
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()


def test_an_expired_answer_is_forgotten(http: httpx2.Client) -> None:
    first = send(http, "k")
    with db.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 s'"))
    second = send(http, "k", b"other bytes")
    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]


def test_a_commit_that_fails_frees_the_key(http: httpx2.Client, media: Bucket) -> None:
    def fail(session: Session) -> None:
        if any(isinstance(row, Analysis) for row in session.identity_map.values()):
            event.remove(Session, "before_commit", fail)
            raise OperationalError("COMMIT", None, Exception("gone"))

    event.listen(Session, "before_commit", fail)
    assert code(send(http, "k")) == (503, "database_unavailable")
    assert rows(Analysis) == rows(IdempotencyKey) == []
    assert send(http, "k").status_code == 202
    for name in media.names() - {row.object_key for row in rows(Media)}:
        media.remove(name)  # kept on purpose: whether the commit happened is not known


def test_an_answer_that_goes_while_the_retry_is_sending_is_asked_for_again(
    address: tuple[str, int], key: str, http: httpx2.Client, media: Bucket
) -> None:
    send(http, "k")
    body = form(part("file", bytes(9 * MiB), filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            'Idempotency-Key: "k"',
        )
        raw.send(body[:-10])
        assert eventually(lambda: media.unfinished() != [])
        with db.transaction() as session:
            session.execute(text("DELETE FROM idempotency_keys"))
        raw.send(body[-10:])
        status, headers, problem = raw.answer()
        assert (status, problem["code"]) == (409, "idempotency_in_progress")
        assert headers["retry-after"] == "1"
    assert len(media.names()) == 1


def test_a_reader_may_not_even_claim(address: tuple[str, int], key: str) -> None:
    assert key
    with client(address, make_key("alice", Scope.ANALYSES_READ)) as reader:
        assert code(send(reader, "k")) == (403, "forbidden")
    assert rows(IdempotencyKey) == []


def test_a_claim_of_another_process_counts(http: httpx2.Client) -> None:
    claim = Claim(owner="alice", key="k", holder=uuid4().hex)
    with db.transaction() as session:
        assert idempotency.begin(session, claim)
    assert code(send(http, "k")) == (409, "idempotency_in_progress")
    with db.transaction() as session:
        assert idempotency.release(session, claim)
    assert send(http, "k").status_code == 202


def test_the_document_tells_of_it(http: httpx2.Client) -> None:
    operation = http.get("/openapi.json").json()["paths"][URL]["post"]
    (parameter,) = [one for one in operation["parameters"] if one["name"] == "Idempotency-Key"]
    assert (parameter["in"], parameter["required"]) == ("header", False)
    assert "Retry-After" in operation["responses"]["409"]["headers"]
    assert "idempotency_mismatch" in operation["responses"]["422"]["description"]
    assert "Idempotency-Replayed" in operation["responses"]["202"]["headers"]
