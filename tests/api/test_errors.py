from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, MutableMapping
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from api.admission import Admission
from api.app import create_app
from api.authentication import Authentication
from api.bounds import Bounds
from api.cors import Cors
from api.errors import MissingScope, NotAuthenticated, is_outage, respond
from api.middleware import SECURITY_HEADERS, Envelope, Linger, Problems
from core.errors import Conflict, Fenced, StorageError, Unavailable
from tests.api.server import Raw, eventually

SCOPE: MutableMapping[str, Any] = {
    "type": "http",
    "path": "/x y",
    "headers": [],
    "state": {"request_id": "r-1"},
}


def rendered(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    response = respond(SCOPE, error)
    return response.status_code, json.loads(bytes(response.body)), dict(response.headers)


def test_an_error_of_ours_becomes_its_problem() -> None:
    status, problem, headers = rendered(Conflict("it has ended", state="done"))
    assert (status, headers["content-type"]) == (409, "application/problem+json")
    assert problem == {
        "type": "https://deepdefend.dev/problems/conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "it has ended",
        "code": "conflict",
        "state": "done",
        "instance": "/x%20y",
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageError("put secret-bucket: 10.0.0.7 refused"), 503, "storage_unavailable"),
        (OperationalError("SELECT secret", {}, Exception("10.0.0.7")), 503, "database_unavailable"),
        (IntegrityError("INSERT secret", {}, Exception("10.0.0.7")), 500, "internal_error"),
        (Fenced("worker secret on 10.0.0.7"), 500, "fenced"),
        (KeyError("secret"), 500, "internal_error"),
    ],
)
def test_our_own_faults_say_nothing_of_our_insides(
    error: Exception, status: int, code: str, logs: list[Any]
) -> None:
    found, problem, _ = rendered(error)
    assert (found, problem["code"], problem["status"]) == (status, code, status)
    assert "secret" not in str(problem)
    assert "10.0.0.7" not in str(problem)
    (line,) = [line for line in logs if line.get("action") == "request_failed"]
    assert line["exc_info"] is error, "the log has what the answer has not"


def test_an_outage_that_was_named_keeps_its_words() -> None:
    status, problem, headers = rendered(Unavailable("no room for another upload"))
    assert (status, problem["detail"], headers["retry-after"]) == (503, "no room for another upload", "5")


def test_challenges_say_what_is_missing() -> None:
    assert rendered(NotAuthenticated(presented=False))[2]["www-authenticate"] == 'Bearer realm="deepdefend"'
    assert 'scope="stats"' in rendered(MissingScope("stats"))[2]["www-authenticate"]


def test_who_hung_up_gets_no_body() -> None:
    assert respond(SCOPE, ClientDisconnect()).status_code == 499


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (OperationalError("", {}, Exception()), True),
        (InterfaceError("", {}, Exception()), True),
        (PoolTimeout(), True),
        (DBAPIError("", {}, Exception(), connection_invalidated=True), True),
        (DBAPIError("", {}, Exception()), False),
        (IntegrityError("", {}, Exception()), False),
    ],
)
def test_an_outage_is_told_from_a_mistake(error: Any, outage: bool) -> None:
    assert is_outage(error) is outage


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/docs/x", "/assets/../api/app.py", "/healthz/"])
def test_an_unknown_address_is_a_404_problem(http: httpx2.Client, path: str) -> None:
    response = http.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert response.headers["content-type"] == "application/problem+json"


def test_a_wrong_method_is_a_405_problem_that_names_the_right_ones(http: httpx2.Client) -> None:
    for method in ("DELETE", "PUT", "OPTIONS", "BREW"):
        response = http.request(method, "/v1/analyses")
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == "GET, HEAD, POST"
    assert http.post("/healthz").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/healthz", "/readyz", "/metrics", "/v1/stats", "/v1/analyses", "/no"]
)
def test_head_has_the_headers_of_get_and_no_body(http: httpx2.Client, path: str) -> None:
    """RFC 9110 section 9.3.2; uptime probes and link checkers ask this way."""
    head, get = http.head(path), http.get(path)
    assert (head.status_code, head.headers["content-type"]) == (get.status_code, get.headers["content-type"])
    assert head.content == b""


def test_head_needs_the_key_that_get_needs(http: httpx2.Client) -> None:
    response = http.head("/v1/stats", headers={"Authorization": "Bearer no"})
    assert (response.status_code, response.content) == (401, b"")


def test_a_wrong_parameter_is_named_and_not_repeated(http: httpx2.Client) -> None:
    response = http.get("/v1/analyses", params={"limit": "0", "sha256": "<script>", "colour": "red"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_parameter")
    assert {tuple(wrong["location"]) for wrong in response.json()["errors"]} == {
        ("query", "limit"),
        ("query", "sha256"),
        ("query", "colour"),
    }
    assert "script" not in response.text
    assert "red" not in response.text


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/analyses", "/", "/docs", "/metrics"])
def test_every_answer_is_dressed(http: httpx2.Client, path: str) -> None:
    response = http.get(path)
    for name in SECURITY_HEADERS:
        assert response.headers[name]
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize(
    ("offered", "kept"),
    [("abc-1.2_3", True), ("x" * 65, False), ("a b", False), ('"><x', False), ("", False)],
)
def test_a_callers_request_id_is_kept_when_it_is_harmless(
    http: httpx2.Client,
    offered: str,
    kept: bool,
) -> None:
    response = http.get("/nothing", headers={"X-Request-ID": offered})
    found = response.headers["x-request-id"]
    assert (found == offered) is kept
    assert response.json()["request_id"] == found


def test_each_request_is_one_log_line(http: httpx2.Client, key: str, logs: list[Any]) -> None:
    path = f"/v1/analyses/{uuid4()}"
    http.get(f"{path}?colour=red")
    http.get("/healthz")
    assert eventually(lambda: {path, "/healthz"} <= set(by_path(logs)))
    lines = by_path(logs)
    assert (lines[path]["method"], lines[path]["status"]) == ("GET", 404)
    assert lines[path]["key"] == key.split("_")[1]
    assert lines[path]["log_level"] == "info"
    assert key not in str(lines)
    assert "colour" not in str(lines)
    assert lines["/healthz"]["log_level"] == "debug", "probes ask every few seconds"


def by_path(logs: list[Any]) -> dict[str, Any]:
    """Access lines; they are written once the answer is out, so a test may see those of another."""
    return {line["path"]: line for line in list(logs) if line.get("action") == "request"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01 this is not HTTP\r\n\r\n",
        b"POST /v1/analyses HTTP/1.1\r\nHost: test\r\nContent-Length: soon\r\n\r\n",
        b"POST /v1/analyses HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/analyses HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"GET /\x00 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_problem_and_does_not_stop_the_server(
    address: tuple[str, int], http: httpx2.Client, request_bytes: bytes
) -> None:
    with Raw(address) as raw:
        raw.send(request_bytes)
        status, headers, problem = raw.answer()
        assert (status, problem["status"], problem["code"]) == (400, 400, "malformed_http")
        assert headers["content-type"] == "application/problem+json"
        assert raw.closed()
    assert http.get("/healthz").status_code == 200


@pytest.fixture
def faulty() -> FastAPI:
    """The application with two more routes, which break."""
    app = create_app()

    @app.get("/breaks")
    def breaks() -> None:
        raise ZeroDivisionError("the secret of the house")

    @app.get("/breaks/late")
    def breaks_late() -> StreamingResponse:
        def half() -> Iterator[bytes]:
            yield b"half"
            raise ZeroDivisionError

        return StreamingResponse(half())

    return app


def ask(app: FastAPI, path: str) -> httpx2.Response:
    async def get() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
            return await caller.get(path)

    return asyncio.run(get())


def test_what_nobody_expected_is_a_dressed_500(faulty: FastAPI, logs: list[Any]) -> None:
    response = ask(faulty, "/breaks")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    failed = [line for line in logs if line.get("action") == "request_failed"]
    assert isinstance(failed[0]["exc_info"], ZeroDivisionError)


def test_half_an_answer_is_not_finished_with_another(faulty: FastAPI) -> None:
    with pytest.raises(ZeroDivisionError):
        ask(faulty, "/breaks/late")


def test_other_protocols_pass_through() -> None:
    """Lifespan and websocket messages are none of the middleware's business."""
    seen: list[str] = []

    async def inner(scope: MutableMapping[str, Any], *_: Any) -> None:
        seen.append(scope["type"])

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(_: MutableMapping[str, Any]) -> None:
        return None

    every = (Admission, Authentication, Bounds, Problems, Cors, Envelope, Linger)
    for middleware in every:
        scope = {"type": "websocket", "path": "/v1/x", "headers": []}
        asyncio.run(middleware(inner)(scope, receive, send))
    assert seen == ["websocket"] * len(every)
