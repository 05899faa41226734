from __future__ import annotations

import gzip
import hashlib
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Fenced, StorageError, Unreachable, UnsafeUrl, Unusable
from core.filenames import MAX_FILENAME
from core.urls import Target
from tests.workers.outbound.conftest import policy
from tests.workers.outbound.server import HOST, Seen, Server, answering, serving, speaking
from tests.workers.outbound.zone import Zone
from workers.outbound import Fetched, fetch
from workers.outbound.fetching import _filename

FILM = b"film" * 10_000


def get(server: Server, folder: Path, url: str | None = None, **more: Any) -> Fetched:
    """Fetch from a server whose address and port are allowed."""
    settings = {
        name: more.pop(name) for name in ("timeout", "idle_timeout", "connect_timeout") if name in more
    }
    allowed = policy(f"{HOST}/32", ports=(server.port, *more.pop("ports", ())), **settings)
    return fetch(url or server.url, folder / "file", policy=allowed, **({"max_bytes": 10**6} | more))


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    with answering(FILM, headers={"Content-Type": "video/mp4; codecs=avc1"}) as server:
        found = get(server, tmp_path, server.url + "clips/Interview%20one.mp4?token=1")
    assert (tmp_path / "file").read_bytes() == FILM
    assert found.sha256 == hashlib.sha256(FILM).hexdigest()
    assert (found.size_bytes, found.content_type) == (len(FILM), "video/mp4")
    assert found.filename == "Interview one.mp4"
    (seen,) = server.requests
    assert (seen.method, seen.path, seen.body) == ("GET", "/clips/Interview%20one.mp4?token=1", b"")
    assert seen.headers["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer", "content-length", "range"} & set(seen.headers)


def chunked(handler: BaseHTTPRequestHandler, *pieces: bytes, end: bool = True) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for piece in pieces:
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    if end:
        handler.wfile.write(b"0\r\n\r\n")


def test_a_file_without_a_length_arrives_whole(tmp_path: Path) -> None:
    with serving(lambda handler, _: chunked(handler, FILM, b"end")) as server:
        assert get(server, tmp_path).size_bytes == len(FILM) + 3


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    with answering(b"") as server:
        assert get(server, tmp_path).size_bytes == 0


def test_a_file_of_the_largest_size_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    with answering(FILM) as server:
        assert get(server, tmp_path, max_bytes=len(FILM)).size_bytes == len(FILM)
        (tmp_path / "file").unlink()
        with pytest.raises(Unusable) as caught:
            get(server, tmp_path, max_bytes=len(FILM) - 1)
    assert (caught.value.code, caught.value.extra["limit_bytes"]) == ("too_large", len(FILM) - 1)
    assert not (tmp_path / "file").exists()  # its length said so before a byte was written


def endless(handler: BaseHTTPRequestHandler, _: Seen) -> None:
    chunked(handler, *[b"x" * 65536] * 10_000, end=False)


def test_a_file_without_an_end_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    with serving(endless) as server, pytest.raises(Unusable) as caught:
        get(server, tmp_path, max_bytes=200_000)
    assert caught.value.code == "too_large"
    assert (tmp_path / "file").stat().st_size <= 200_000


def lying(caller: socket.socket) -> None:
    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: video/mp4\r\n\r\nshort")


def test_a_file_that_breaks_off_is_not_taken(tmp_path: Path) -> None:
    with speaking(lying) as server, pytest.raises(Unreachable) as caught:
        get(server, tmp_path)
    assert caught.value.code == "bad_answer"


TAKEN = [
    *("video/mp4", "VIDEO/MP4", "video/x-msvideo", "video/quicktime; foo=bar", "audio/mpeg", "audio/x-wav"),
    *("application/octet-stream", "binary/octet-stream", "application/mp4", "application/ogg", ""),
]
REFUSED = [
    *("text/html", "text/html; charset=utf-8", "text/plain", "application/json", "application/xhtml+xml"),
    *("image/png", "image/svg+xml", "application/pdf", "application/zip", "multipart/byteranges", "*/*"),
    *("video", "video/", "video/mp4, text/html", "text/html, video/mp4", "application/vnd.apple.mpegurl"),
]


@pytest.mark.parametrize("kind", [*TAKEN, *REFUSED])
def test_a_web_page_is_no_film(tmp_path: Path, kind: str) -> None:
    with answering(FILM, headers={"Content-Type": kind} if kind else {}) as server:
        if kind in TAKEN:
            assert get(server, tmp_path).size_bytes == len(FILM)
            return
        with pytest.raises(Unusable) as caught:
            get(server, tmp_path)
    assert caught.value.code == "wrong_type"
    assert caught.value.detail == "what the server sends is neither video nor sound"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "gzip, identity", "nonsense"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 10**7)
    with answering(bomb, headers={"Content-Encoding": encoding}) as server, pytest.raises(Unusable) as caught:
        get(server, tmp_path)
    assert caught.value.code == "wrong_type"
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 305, 400, 401, 403, 404, 405, 410, 416, 451])
def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    with answering(b"", status=status) as server, pytest.raises(Unusable) as caught:
        get(server, tmp_path)
    assert caught.value.code == "refused"
    assert str(status) in caught.value.detail


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_server_in_trouble_may_be_asked_again(tmp_path: Path, status: int) -> None:
    with answering(b"secret stack trace", status=status) as server, pytest.raises(Unreachable) as caught:
        get(server, tmp_path)
    assert caught.value.code == "unavailable"
    assert "secret" not in str(caught.value.problem())


def redirecting(times: int, status: int = 302) -> Callable[[BaseHTTPRequestHandler, Seen], None]:
    """`/0` leads to `/1` and so on; after so many there is a film."""

    def answer(handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        step = int(seen.path.strip("/") or "0")
        if step < times:
            handler.send_response(status)
            handler.send_header("Location", f"/{step + 1}#t=5")
            handler.send_header("Set-Cookie", "session=1")
            handler.end_headers()
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "4")
            handler.end_headers()
            handler.wfile.write(b"film")

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_three_redirects_are_followed(tmp_path: Path, status: int) -> None:
    with serving(redirecting(3, status)) as server:
        found = get(server, tmp_path)
    assert found.url == f"{server.url}3"
    assert [seen.path for seen in server.requests] == ["/", "/1", "/2", "/3"]
    assert all("cookie" not in seen.headers for seen in server.requests)


def test_a_fourth_is_not(tmp_path: Path) -> None:
    with serving(redirecting(4)) as server, pytest.raises(Unusable) as caught:
        get(server, tmp_path)
    assert caught.value.code == "refused"
    assert len(server.requests) == 4


@pytest.mark.parametrize("location", ["", "#top"])
def test_a_redirect_to_nowhere_is_a_refusal(tmp_path: Path, location: str) -> None:
    with answering(b"", status=302, headers={"Location": location}) as server, pytest.raises(Unusable):
        get(server, tmp_path)


@pytest.mark.parametrize(
    "location",
    ["http:///x", "http:x", "//127.0.0.1/", "file:///etc/passwd", "http://[/", "\\\\x\\y", "//[::1]:x"],
)
def test_a_redirect_astray_is_unsafe(tmp_path: Path, location: str) -> None:
    with answering(b"", status=302, headers={"Location": location}) as server, pytest.raises(UnsafeUrl):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_a_redirect_with_letters_beyond_ascii_is_followed(tmp_path: Path, zone: Zone) -> None:
    zone.add("xn--bcher-kva.test", [HOST])
    with answering(FILM) as target:
        moved = {"Location": f"http://bücher.test:{target.port}/ü".encode().decode("latin-1")}
        with answering(b"", status=302, headers=moved) as server:
            found = get(server, tmp_path, ports=(target.port,))
    assert found.url == f"http://xn--bcher-kva.test:{target.port}/%C3%BC"
    assert target.requests[0].path == "/%C3%BC"


def test_an_answer_to_another_port_than_allowed_is_unsafe(tmp_path: Path) -> None:
    with (
        answering(FILM) as target,
        answering(b"", status=302, headers={"Location": target.url}) as server,
        pytest.raises(UnsafeUrl),
    ):
        get(server, tmp_path)
    assert target.requests == []


def drip(caller: socket.socket) -> None:
    """A byte at a time, each soon enough."""
    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    caller.settimeout(0.05)
    for _ in range(2000):
        caller.sendall(b"x")
        try:
            if caller.recv(1) == b"":
                return
        except TimeoutError:
            continue


def stall(caller: socket.socket) -> None:
    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx")
    caller.recv(1)


@pytest.mark.parametrize(
    ("speak", "limits"), [(drip, {"timeout": 0.7}), (stall, {"timeout": 0.7}), (stall, {"idle_timeout": 0.7})]
)
def test_slow_servers_are_given_up(tmp_path: Path, speak: Any, limits: dict[str, Any]) -> None:
    with speaking(speak) as server, pytest.raises(Unreachable) as caught:
        get(server, tmp_path, **limits)
    assert caught.value.code == "timed_out"


def test_redirects_share_one_limit(tmp_path: Path) -> None:
    with speaking(stall) as slow:
        moved = {"Location": slow.url}
        with answering(b"", status=302, headers=moved) as server, pytest.raises(Unreachable) as caught:
            get(server, tmp_path, ports=(slow.port,), timeout=0.7)
    assert caught.value.code == "timed_out"


@pytest.mark.parametrize("speak", [drip, stall])
def test_a_cancellation_is_noticed_on_the_way(tmp_path: Path, speak: Any) -> None:
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Fenced

    with speaking(speak) as server, pytest.raises(Fenced):
        get(server, tmp_path, checkpoint=checkpoint)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with answering(FILM) as server, pytest.raises(StorageError):
        get(server, tmp_path)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("disposition", "url", "shown"),
    [
        (None, "https://a.b/clips/one.mp4?x=/two.mp4", "one.mp4"),
        (None, "https://a.b/clips/", None),
        (None, "https://a.b/", None),
        (None, "https://a.b/%2e%2e%2fetc%2fpasswd", "passwd"),
        (None, "https://a.b/in%00voice%E2%80%AE.mp4", "invoice.mp4"),
        (None, "https://a.b/%FF%FE.mp4", "\ufffd\ufffd.mp4"),
        ("attachment", "https://a.b/one.mp4", "one.mp4"),
        ('attachment; filename="two.mp4"', "https://a.b/one.mp4", "two.mp4"),
        ("attachment; filename=two.mp4", "https://a.b/one.mp4", "two.mp4"),
        ("attachment; filename*=UTF-8''Zo%C3%AB.mp4", "https://a.b/one.mp4", "Zoë.mp4"),
        ('inline; filename="../../etc/passwd"', "https://a.b/one.mp4", "passwd"),
        ('inline; filename="Zoë.mp4"'.encode().decode("latin-1"), "https://a.b/", "Zoë.mp4"),
        ('inline; filename="Zo\xeb.mp4"', "https://a.b/", "Zoë.mp4"),
        ("attachment; filename*=nonsense''x.mp4", "https://a.b/one.mp4", "x.mp4"),
        ('attachment; filename=".."', "https://a.b/one.mp4", "one.mp4"),
        ("attachment; filename*=x; filename*0=y", "https://a.b/one.mp4", "one.mp4"),
        ("attachment; filename*" + "9" * 900 + "=x", "https://a.b/one.mp4", "x"),
        ("attachment; filename*=undefined''x", "https://a.b/one.mp4", "one.mp4"),
        ("attachment; filename*=idna''x", "https://a.b/one.mp4", "one.mp4"),
    ],
)
def test_the_servers_name_is_only_shown(disposition: str | None, url: str, shown: str | None) -> None:
    assert _filename(disposition, Target(scheme="https", host="a.b", port=443, url=url)) == shown


LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"))


@given(parameter=st.sampled_from(["filename", "filename*", "filename*0*", "name", "filename*1"]), value=LATIN)
def test_no_name_of_a_server_breaks_anything(parameter: str, value: str) -> None:
    target = Target(scheme="https", host="a.b", port=443, url="https://a.b/one.mp4")
    shown = _filename(f"attachment; {parameter}={value}", target)
    assert shown is not None
    assert 0 < len(shown) <= MAX_FILENAME
    assert "/" not in shown
