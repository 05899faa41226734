from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from api.middleware import LINGER_BYTES
from core import db, keys
from core.config import MiB
from core.keys import Scope
from tests.api.conftest import Bucket, client, make_key
from tests.api.server import BOUNDARY, Raw, form, part

URL = "/v1/analyses"
GIGABYTE = 1024 * MiB
#: A body that is promised and never comes: who waits for it hangs.
PROMISE = ("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {GIGABYTE}")


def unusable_keys(good: str) -> dict[str, str]:
    """Keys that were never good, by what is wrong with them."""
    prefix, secret = good.split("_")[1:]
    other = make_key("mallory").split("_")
    return {
        "words": "let me in",
        "cut": good[:-1],
        "one letter off": good[:-10] + ("a" if good[-10] != "a" else "b") + good[-9:],
        "another's secret": f"dd_{prefix}_{other[2]}",
        "another's prefix": f"dd_{other[1]}_{secret}",
        "upper case": good.upper(),
        "twice": f"{good} {good}",
    }


@pytest.mark.parametrize(
    "kind",
    [
        "words",
        "cut",
        "one letter off",
        "another's secret",
        "another's prefix",
        "upper case",
        "twice",
    ],
)
def test_a_key_that_is_none_is_a_401(address: tuple[str, int], key: str, kind: str) -> None:
    with client(address) as stranger:
        response = stranger.get(URL, headers={"Authorization": f"Bearer {unusable_keys(key)[kind]}"})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="deepdefend", error="invalid_token"'


def test_no_key_is_a_401_that_says_how(address: tuple[str, int], key: str) -> None:
    assert key
    with client(address) as stranger:
        for path in (URL, f"{URL}/no-id", "/v1/stats", "/v1/nothing/here", "/v1/"):
            response = stranger.get(path)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == 'Bearer realm="deepdefend"'


@pytest.mark.parametrize("header", ["{key}", "Basic {key}", "Bearer{key}", "Bearer", "Token {key}"])
def test_another_scheme_is_a_401(address: tuple[str, int], key: str, header: str) -> None:
    with client(address) as stranger:
        response = stranger.get(URL, headers={"Authorization": header.format(key=key)})
    assert response.status_code == 401


@pytest.mark.parametrize("header", ["Bearer {key}", "bearer {key}", "BEARER   {key}"])
def test_the_scheme_may_be_written_in_any_case(address: tuple[str, int], key: str, header: str) -> None:
    with client(address) as caller:
        assert caller.get(URL, headers={"Authorization": header.format(key=key)}).status_code == 200


def test_two_authorization_headers_are_none(address: tuple[str, int], key: str) -> None:
    with Raw(address) as raw:
        raw.head(f"Authorization: Bearer {key}", f"Authorization: Bearer {key}", method="GET")
        assert raw.answer()[0] == 401


def test_a_key_with_strange_bytes_is_a_401(address: tuple[str, int], key: str) -> None:
    assert key
    with Raw(address) as raw:
        raw.socket.sendall(
            b"GET /v1/stats HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer dd_\xff\xfe_\xe9\r\n\r\n"
        )
        assert raw.answer()[0] == 401


def test_a_revoked_key_is_refused_at_once(http: httpx2.Client, key: str) -> None:
    assert http.get(URL).status_code == 200
    with db.transaction() as session:
        keys.revoke(session, key.split("_")[1])
    assert http.get(URL).status_code == 401


def test_an_expired_key_is_refused(address: tuple[str, int], clean_database: str) -> None:
    assert clean_database
    with db.transaction() as session:
        _, late = keys.create(session, name="late", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    with client(address, late) as caller:
        assert caller.get(URL).status_code == 401


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope.ANALYSES_READ, {"GET /v1/analyses", "GET /v1/detectors"}),
        (Scope.ANALYSES_WRITE, {"POST /v1/analyses"}),
        (Scope.STATS, {"GET /v1/stats"}),
    ],
)
def test_a_key_does_what_its_scope_says_and_no_more(
    address: tuple[str, int], clean_database: str, media: Bucket, scope: Scope, allowed: set[str]
) -> None:
    assert clean_database
    assert media
    with client(address, make_key("alice", scope)) as caller:
        for call in ("GET /v1/analyses", "GET /v1/detectors", "GET /v1/stats", "POST /v1/analyses"):
            method, path = call.split()
            files = {"file": ("a", b"abc")} if method == "POST" else None
            response = caller.request(method, path, files=files)
            if call in allowed:
                assert response.is_success
            else:
                assert (response.status_code, response.json()["code"]) == (403, "forbidden")
                assert response.json()["required_scope"] != scope.value
                assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


@pytest.mark.parametrize("credentials", [(), ("Authorization: Bearer nonsense",)])
def test_a_stranger_is_answered_before_the_body_is_sent(
    address: tuple[str, int], clean_database: str, media: Bucket, credentials: tuple[str, ...]
) -> None:
    assert clean_database
    with Raw(address) as raw:
        raw.head(*credentials, *PROMISE)  # and not one byte of the gigabyte
        status, headers, problem = raw.answer()
        assert (status, problem["code"]) == (401, "unauthorized")
        assert headers["connection"] == "close"
        assert raw.closed()
    assert media.names() == set()


def test_a_key_without_the_scope_is_answered_before_the_body_is_sent(
    address: tuple[str, int], clean_database: str
) -> None:
    assert clean_database
    with Raw(address) as raw:
        raw.head(f"Authorization: Bearer {make_key('alice', Scope.STATS)}", *PROMISE)
        assert raw.answer()[0] == 403


def test_a_stranger_who_asks_first_is_never_told_to_go_on(
    address: tuple[str, int], clean_database: str
) -> None:
    assert clean_database
    with Raw(address) as raw:
        raw.head(*PROMISE, "Expect: 100-continue")
        assert raw.answer()[0] == 401


def test_a_stranger_who_sends_anyway_can_read_the_answer(
    address: tuple[str, int], clean_database: str, media: Bucket
) -> None:
    """Without the lingering end, the reset of the connection may destroy the answer on its way."""
    assert clean_database
    body = form(part("file", bytes(8 * MiB), filename="a"))
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    with Raw(address) as raw:
        raw.head(f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
        raw.send(body)
        assert raw.answer()[0] == 401
        assert raw.closed()
    assert media.names() == set()


def test_a_stranger_cannot_pour_without_end(address: tuple[str, int], clean_database: str) -> None:
    assert clean_database
    with Raw(address) as raw:
        raw.head(*PROMISE)
        assert pour(raw, GIGABYTE) < LINGER_BYTES * 2


def pour(raw: Raw, wanted: int) -> int:
    """Bytes sent until the server hangs up."""
    sent, piece = 0, bytes(MiB)
    try:
        while sent < wanted:
            raw.send(piece)
            sent += len(piece)
    except ConnectionError:
        pass
    return sent


def test_a_connection_is_kept_after_a_body_that_was_read(
    address: tuple[str, int], key: str, media: Bucket
) -> None:
    assert media
    body = form(part("file", b"abc", filename="a"))
    lines = (
        f"Authorization: Bearer {key}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    )
    with Raw(address) as raw:
        for _ in range(2):
            raw.head(*lines)
            raw.send(body)
            status, headers, _ = raw.answer()
            assert status == 202
            assert "connection" not in headers


def test_a_database_that_is_away_is_a_503_and_not_a_401(
    http: httpx2.Client, set_settings: Callable[..., None], logs: list[Any]
) -> None:
    set_settings(DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:1/none")
    response = http.get(URL)
    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response.headers["retry-after"] == "5"
    assert "127.0.0.1" not in response.text
    assert [line["code"] for line in logs if line.get("action") == "request_failed"] == [
        "database_unavailable"
    ]
