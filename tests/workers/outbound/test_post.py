from __future__ import annotations

import socket
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from core.errors import Unreachable
from tests.workers.outbound.conftest import policy
from tests.workers.outbound.server import HOST, Seen, Server, answering, serving, speaking
from tests.workers.outbound.zone import Zone
from workers.outbound import Reply, post

SECONDS = timedelta(seconds=20)
#: For what must run into its limit.
SHORT = timedelta(seconds=0.7)


def send(server: Server, url: str | None = None, **more: Any) -> Reply:
    arguments: dict[str, Any] = {
        "body": b'{"id":1}',
        "headers": {"webhook-id": "msg_1", "Content-Type": "application/json"},
        "policy": policy(f"{HOST}/32", ports=(server.port,)),
        "timeout": SECONDS,
    }
    return post(url or server.url, **(arguments | more))


def test_exactly_the_bytes_and_the_headers_arrive() -> None:
    with answering(b"thanks", status=202, headers={"X-Mark": "1"}) as server:
        reply = send(server, server.url + "hook?key=%2F")
    (seen,) = server.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/hook?key=%2F", b'{"id":1}')
    assert seen.headers["host"] == f"{HOST}:{server.port}"
    assert seen.headers["webhook-id"] == "msg_1"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["content-length"] == "8"
    assert seen.headers["user-agent"].startswith("DeepDefend/")
    assert (reply.status, reply.body, reply.headers["x-mark"]) == (202, b"thanks", "1")
    assert reply.milliseconds >= 0


def test_a_caller_cannot_change_where_it_goes() -> None:
    with answering(b"") as server:
        send(server, headers={"HOST": "metadata", "content-length": "0", "connection": "upgrade"})
    (seen,) = server.requests
    assert seen.headers["host"] == f"{HOST}:{server.port}"
    assert seen.body == b'{"id":1}'
    assert seen.headers["connection"] == "close"


def test_the_name_stays_in_the_host_header(zone: Zone) -> None:
    zone.add("hooks.test", [HOST])
    with answering(b"") as server:
        send(server, f"http://hooks.test:{server.port}/")
    assert server.requests[0].headers["host"] == f"hooks.test:{server.port}"


@pytest.mark.parametrize("status", [200, 204, 301, 302, 303, 307, 308, 400, 404, 410, 429, 500, 503])
def test_every_status_is_an_answer_and_no_redirect_is_followed(status: int) -> None:
    with answering(b"", status=status, headers={"Location": "/elsewhere", "Retry-After": "7"}) as server:
        reply = send(server)
    assert reply.status == status
    assert reply.headers["retry-after"] == "7"
    assert len(server.requests) == 1


def test_only_the_beginning_of_the_answer_is_kept() -> None:
    with answering(b"x" * 300_000) as server:
        assert send(server).body == b"x" * 2048
        assert send(server, keep=5).body == b"xxxxx"


def test_an_answer_is_not_unpacked() -> None:
    with answering(b"\x1f\x8b bomb", headers={"Content-Encoding": "gzip"}) as server:
        assert send(server).body == b"\x1f\x8b bomb"
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
)
def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with answering(b"") as proxy, answering(b"") as server:
        monkeypatch.setenv(name, proxy.url)
        send(server)
    assert (len(proxy.requests), len(server.requests)) == (0, 1)


def test_no_password_comes_from_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine {HOST} login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with answering(b"", headers={"Set-Cookie": "a=b"}) as server:
        send(server)
        send(server)
    assert not {"authorization", "cookie"} & {name for seen in server.requests for name in seen.headers}


def test_the_next_address_is_tried_when_one_takes_no_connection(zone: Zone) -> None:
    zone.add("hooks.test", ["127.0.0.3", "127.0.0.4", HOST])
    with answering(b"ok") as server:
        allowed = policy("127.0.0.0/29", ports=(server.port,))
        assert send(server, f"http://hooks.test:{server.port}/", policy=allowed).body == b"ok"
    assert len(server.requests) == 1


def test_a_shut_port_is_said_without_its_address() -> None:
    with answering(b"") as server:
        pass
    with pytest.raises(Unreachable) as caught:
        send(server)
    assert caught.value.code == "connect_failed"
    assert HOST not in str(caught.value.problem())
    assert str(server.port) not in str(caught.value.problem())


def silent(caller: socket.socket) -> None:
    while caller.recv(65536):
        pass


def drip_head(caller: socket.socket) -> None:
    """A head that never ends, quick enough for every limit per read."""
    caller.sendall(b"HTTP/1.1 200 OK\r\n")
    caller.settimeout(0.05)
    for number in range(10_000):
        caller.sendall(f"X-{number}: y\r\n".encode())
        try:
            if caller.recv(1) == b"":
                return
        except TimeoutError:
            continue


@pytest.mark.parametrize("speak", [silent, drip_head])
def test_the_limit_is_for_the_whole_call(speak: Any) -> None:
    with speaking(speak) as server, pytest.raises(Unreachable) as caught:
        send(server, timeout=SHORT)
    assert caught.value.code == "timed_out"


def test_a_listener_that_never_accepts_is_given_up() -> None:
    with socket.create_server((HOST, 0), backlog=1) as listener:
        server = Server(listener.getsockname()[1])
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex((HOST, server.port))
        with pytest.raises(Unreachable) as caught:
            send(server, timeout=SHORT)
        for one in waiting:
            one.close()
    assert caught.value.code == "timed_out"


def answer_with(*sent: bytes) -> Any:
    def speak(caller: socket.socket) -> None:
        for piece in sent:
            caller.sendall(piece)

    return speak


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "bad_answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 99 What\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, "bad_answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, "bad_answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000, "bad_answer"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20_000, "bad_answer"),
        (b"-ERR unknown command 'POST'\r\n" * 3, "bad_answer"),
    ],
)
def test_what_is_not_http_is_not_repeated(said: bytes, code: str) -> None:
    """A Redis, an SSH server, an endless head: none of what it said is told."""
    with speaking(answer_with(said)) as server, pytest.raises(Unreachable) as caught:
        send(server)
    assert caught.value.code in {code, "connection_lost"}  # it may hang up before we have read it all
    assert not {"SSH", "ERR", "Hints", "Early"} & set(str(caught.value.problem()).replace("-", " ").split())


def interim_for_ever(caller: socket.socket) -> None:
    """Each of them short and valid, so that no limit per message is ever reached."""
    while True:
        caller.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100)


def test_the_way_to_a_status_is_bounded() -> None:
    with speaking(interim_for_ever) as server, pytest.raises(Unreachable) as caught:
        send(server)
    assert caught.value.code == "bad_answer"


def test_a_status_counts_even_when_the_body_breaks_off() -> None:
    with speaking(answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half")) as server:
        reply = send(server)
    assert (reply.status, reply.body) == (200, b"half")


def test_a_status_counts_even_when_the_body_never_ends() -> None:
    def hang(handler: BaseHTTPRequestHandler, _: Seen) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"slow")
        handler.connection.settimeout(20)
        handler.connection.recv(1)

    with serving(hang) as server:
        reply = send(server, timeout=SHORT)
    assert (reply.status, reply.body) == (200, b"slow")


def test_no_connection_stays_open() -> None:
    hung_up = []

    def watch(handler: BaseHTTPRequestHandler, _: Seen) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"hello")
        handler.connection.settimeout(20)
        hung_up.append(handler.connection.recv(1))

    with serving(watch) as server:
        send(server)
    assert hung_up == [b""]
