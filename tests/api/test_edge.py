"""What reaches the application at all: heads, bodies, connections."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.types import Receive, Scope, Send

from api import bounds, protocol
from api.app import create_app
from api.bounds import MAX_BODY_BYTES, MAX_HEADERS, receive_slowly
from api.errors import EarlyEnd, UploadStalled, respond
from api.middleware import SECURITY_HEADERS
from tests.api.conftest import client
from tests.api.server import BOUNDARY, Raw, eventually, form, part, serving

REFUSED = [
    ("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443", 400, "invalid_target"),
    ("TRACE", b"TRACE / HTTP/1.1\r\nHost: t", 405, "method_not_allowed"),
    ("an unknown method", b"FROB / HTTP/1.1\r\nHost: t", 405, "method_not_allowed"),
    ("a lower-case method", b"get / HTTP/1.1\r\nHost: t", 405, "method_not_allowed"),
    ("another server's address", b"GET http://evil/v1/stats HTTP/1.1\r\nHost: t", 400, "invalid_target"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: t\r\nHost: u", 400, "malformed_http"),
    ("no host", b"GET / HTTP/1.1", 400, "malformed_http"),
    ("HTTP/0.9", b"GET /", 400, "malformed_http"),
    ("HTTP/2 in plain text", b"PRI * HTTP/2.0\r\n\r\nSM", 505, "unknown_http_version"),
    ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: t", 505, "unknown_http_version"),
    ("the server itself", b"OPTIONS * HTTP/1.1\r\nHost: t", 404, "not_found"),
    ("an encoded slash", b"GET /v1%2Fstats HTTP/1.1\r\nHost: t", 400, "invalid_target"),
    ("an encoded backslash", b"GET /v1%5cstats HTTP/1.1\r\nHost: t", 400, "invalid_target"),
    ("an encoded NUL", b"GET /v1/stats%00 HTTP/1.1\r\nHost: t", 400, "invalid_target"),
    ("an encoded line end", b"GET /v1/a%0d%0ab HTTP/1.1\r\nHost: t", 400, "invalid_target"),
    ("a NUL", b"GET /\x00 HTTP/1.1\r\nHost: t", 400, "malformed_http"),
    ("bytes of no alphabet", b"GET /\xff HTTP/1.1\r\nHost: t", 400, "malformed_http"),
    ("a blank before the colon", b"GET / HTTP/1.1\r\nHost : t", 400, "malformed_http"),
    ("a lone carriage return", b"GET / HTTP/1.1\r\nHost: t\r\nX: a\rb", 400, "malformed_http"),
    ("a NUL in a header", b"GET / HTTP/1.1\r\nHost: t\r\nX: a\x00b", 400, "malformed_http"),
    ("a long header", b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"a" * 17_000, 431, "headers_too_large"),
    (
        "many headers",
        b"GET / HTTP/1.1\r\nHost: t" + b"".join(b"\r\nX%d: a" % n for n in range(MAX_HEADERS)),
        431,
        "headers_too_large",
    ),
    ("a long query", b"GET /healthz?" + b"a" * 4097 + b" HTTP/1.1\r\nHost: t", 414, "uri_too_long"),
    ("dots", b"GET /x/../v1/stats HTTP/1.1\r\nHost: t", 404, "not_found"),
    ("two slashes", b"GET //v1/stats HTTP/1.1\r\nHost: t", 404, "not_found"),
    ("an encoded letter", b"GET /%761/stats HTTP/1.1\r\nHost: t", 401, "unauthorized"),
]
#: Two readers could disagree on where these end.
SMUGGLED = [
    ("CL.TE", b"Content-Length: 6\r\nTransfer-Encoding: chunked", 400, "malformed_http"),
    ("TE.CL", b"Transfer-Encoding: chunked\r\nContent-Length: 4", 400, "malformed_http"),
    ("TE.TE", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501, "unknown_transfer_encoding"),
    ("xchunked", b"Transfer-Encoding: xchunked", 501, "unknown_transfer_encoding"),
    ("a list of encodings", b"Transfer-Encoding: gzip, chunked", 501, "unknown_transfer_encoding"),
    ("a vertical tab", b"Transfer-Encoding:\x0bchunked", 400, "malformed_http"),
    ("a folded line", b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 6", 400, "malformed_http"),
    ("two lengths", b"Content-Length: 6\r\nContent-Length: 5", 400, "malformed_http"),
    ("a signed length", b"Content-Length: +6", 400, "malformed_http"),
    ("a hexadecimal length", b"Content-Length: 0x6", 400, "malformed_http"),
]


@pytest.mark.parametrize(("what", "head", "status", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_an_odd_request_is_refused_in_our_words(
    address: tuple[str, int], http: httpx2.Client, what: str, head: bytes, status: int, code: str
) -> None:
    with Raw(address) as raw:
        raw.send(head + b"\r\n\r\n")
        answer, headers, problem = raw.answer()
    assert (answer, problem["code"]) == (status, code), what
    assert headers["content-type"] == "application/problem+json"
    assert "evil" not in str(problem.get("detail"))
    assert http.get("/healthz").status_code == 200


@pytest.mark.parametrize(("what", "framing", "status", "code"), SMUGGLED, ids=[row[0] for row in SMUGGLED])
def test_a_body_that_ends_in_two_places_is_refused_and_nothing_after_it_is_read(
    address: tuple[str, int], clean_database: str, what: str, framing: bytes, status: int, code: str
) -> None:
    assert clean_database
    with Raw(address) as raw:
        raw.send(b"POST /v1/analyses HTTP/1.1\r\nHost: t\r\n" + framing + b"\r\n\r\n0\r\n\r\n")
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        answer, headers, problem = raw.answer()
        assert (answer, problem["code"]) == (status, code), what
        assert headers["connection"] == "close"
        assert raw.closed(), "the smuggled request was answered"


def test_chunked_http_1_0_is_refused(address: tuple[str, int]) -> None:
    with Raw(address) as raw:
        raw.send(b"POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert raw.answer()[0] == 400


def test_an_upgrade_that_is_not_spoken_is_ignored(address: tuple[str, int]) -> None:
    for upgrade in ("websocket", "h2c"):
        with Raw(address) as raw:
            raw.head("Connection: Upgrade", f"Upgrade: {upgrade}", target="/healthz", method="GET")
            assert raw.answer()[0] == 200


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not wait long."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)


@pytest.mark.usefixtures("hurried")
def test_a_head_that_drips_is_cut_off(address: tuple[str, int]) -> None:
    """Slowloris: each byte comes in time for a timeout between bytes."""
    with Raw(address) as raw:
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: t\r\n")
        assert eventually(lambda: not drip(raw))
        status, headers, problem = raw.answer()
        assert (status, problem["code"]) == (408, "head_timeout")
        assert headers["connection"] == "close"


def drip(raw: Raw) -> bool:
    """One more byte of a head, unless there is an answer already."""
    if select.select([raw.socket], [], [], 0)[0]:
        return False
    raw.send(b"X")
    return True


@pytest.mark.usefixtures("hurried")
def test_a_connection_that_says_nothing_is_closed(address: tuple[str, int]) -> None:
    with Raw(address) as raw:
        assert raw.closed()


@pytest.mark.usefixtures("hurried")
def test_the_second_head_of_a_connection_is_on_the_clock_too(address: tuple[str, int]) -> None:
    with Raw(address) as raw:
        raw.head(target="/healthz", method="GET")
        assert raw.answer()[0] == 200
        raw.send(b"GET /healthz HTTP/1.1\r\n")
        assert raw.answer()[2]["code"] == "head_timeout"


@pytest.mark.usefixtures("hurried")
def test_a_half_head_behind_a_whole_request_is_on_the_clock_too(address: tuple[str, int]) -> None:
    with Raw(address) as raw:
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\nGET /healthz HTTP/1.1\r\n")
        assert raw.answer()[0] == 200
        assert raw.answer()[2]["code"] == "head_timeout"


@pytest.mark.usefixtures("hurried")
def test_a_slow_body_is_none_of_the_heads_clock(address: tuple[str, int], key: str) -> None:
    body = form(part("file", b"abc", filename="a"))
    with Raw(address) as raw, Raw(address) as watch:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            f"Content-Length: {len(body)}",
        )
        raw.send(body[:10])
        assert watch.closed(), "the clock of a head has run out by now"
        raw.send(body[10:])
        assert raw.answer()[0] == 202


def test_a_caller_who_never_reads_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep its answer in memory, and its connection, for as long as it likes."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)
    ended = threading.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": bytes(2**25), "more_body": True})
        ended.set()

    app = create_app()
    app.mount("/endless", endless)
    with serving(app) as address, Raw(address) as raw, Raw(address) as reader:
        raw.head(target="/endless/", method="GET")
        assert ended.wait(20)
        reader.head(target="/assets/swagger-ui.js", method="GET")
        assert int(reader.file.readline().split()[1]) == 200, "who reads is not disturbed"


def test_connections_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 2)
    with serving() as address, Raw(address) as first, Raw(address) as second:
        for raw in (first, second):
            raw.head(target="/healthz", method="GET")
            assert raw.answer()[0] == 200
        with Raw(address) as third:
            status, headers, problem = third.answer()
            assert (status, problem["code"], headers["retry-after"]) == (503, "server_busy", "5")
            assert third.closed()
        first.head(target="/healthz", method="GET")
        assert first.answer()[0] == 200


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """The application with a route that reads its body."""
    app = create_app()

    @app.post("/echo")
    async def echoed(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def parsed(content: dict[str, Any]) -> int:
        return len(content)

    with serving(app) as address:
        yield address


@pytest.mark.parametrize("path", ["/echo", "/json"])
def test_a_small_body_has_a_bound_when_it_is_announced(echo: tuple[str, int], path: str) -> None:
    with Raw(echo) as raw:
        raw.head(f"Content-Length: {MAX_BODY_BYTES + 1}", "Expect: 100-continue", target=path)
        status, headers, problem = raw.answer()
        assert (status, problem["code"]) == (413, "body_too_large")
        assert problem["limit_bytes"] == MAX_BODY_BYTES
        assert headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/echo", "/json"])
def test_a_small_body_has_a_bound_when_it_is_not_announced(echo: tuple[str, int], path: str) -> None:
    with Raw(echo) as raw:
        raw.head("Transfer-Encoding: chunked", "Content-Type: application/json", target=path)
        for _ in range(MAX_BODY_BYTES // 4096 + 1):
            raw.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
        status, _, problem = raw.answer()
        assert (status, problem["code"]) == (413, "body_too_large")


def test_a_body_within_its_bound_is_read(echo: tuple[str, int]) -> None:
    with client(echo) as caller:
        assert caller.post("/echo", content=bytes(MAX_BODY_BYTES)).json() == MAX_BODY_BYTES
        assert caller.post("/json", json={"a": 1}).json() == 1


@pytest.mark.parametrize("path", ["/echo", "/json"])
def test_a_small_body_that_never_ends_is_given_up(
    echo: tuple[str, int], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(bounds, "BODY_SECONDS", 0.2)
    with Raw(echo) as raw:
        raw.head("Content-Length: 10", "Content-Type: application/json", target=path)
        raw.send(b"{")
        status, _, problem = raw.answer()
        assert (status, problem["code"]) == (408, "body_timeout")


def slow_upload(seconds: float, size: int, pieces: int) -> int:
    """How many pieces of an upload are taken from a sender that needs `seconds` for each."""
    time, sent = 0.0, 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal time, sent
        time += seconds
        sent += 1
        return {"type": "http.request", "body": bytes(size), "more_body": sent < pieces}

    async def read() -> int:
        bounded = receive_slowly(receive, lambda: time)
        for taken in range(pieces):
            try:
                await bounded()
            except EarlyEnd:
                return taken
        return pieces

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("seconds", "size", "taken"),
    [
        (1.0, 2048, 1000),  # slow, but it will end
        (50.0, 1, 1),  # a byte now and then would hold its place for years
        (0.001, 1, 1000),
        (59.0, 65_536, 1000),
    ],
)
def test_an_upload_may_be_slow_but_not_without_end(seconds: float, size: int, taken: int) -> None:
    assert slow_upload(seconds, size, 1000) == taken


def test_an_upload_that_is_given_up_is_a_408() -> None:
    assert respond({"path": "/"}, EarlyEnd(UploadStalled())).status_code == 408


def test_every_answer_is_dressed(http: httpx2.Client) -> None:
    for path in ("/healthz", "/v1/stats", "/nothing", "/openapi.json", "/v1/analyses/x%2fy"):
        headers = http.get(path).headers
        assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert headers["x-request-id"]


def test_transport_security_is_promised_to_who_came_by_tls(http: httpx2.Client) -> None:
    secure = http.get("/healthz", headers={"X-Forwarded-Proto": "https"})
    assert secure.headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in http.get("/healthz").headers


def test_a_path_below_a_prefix_is_guarded_as_well(clean_database: str) -> None:
    assert clean_database
    app: FastAPI = create_app()

    async def ask() -> int:
        transport = httpx2.ASGITransport(app, root_path="/deep")
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as caller:
            return (await caller.get("/deep/v1/analyses")).status_code

    assert asyncio.run(ask()) == 401
