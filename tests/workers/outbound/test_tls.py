"""https: the name stays in SNI, `Host` and the certificate check, while the dial goes to the address."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import Fenced, Unreachable, UnsafeUrl
from tests.workers.outbound.certificates import Authority, listen_to_names
from tests.workers.outbound.conftest import policy
from tests.workers.outbound.server import HOST, Server, answering, speaking
from tests.workers.outbound.zone import Zone
from workers.outbound import Reply, dial, fetch, post

SECONDS = timedelta(seconds=20)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """Trusted by this process for the test."""
    it = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(it.path))
    dial.tls_context.cache_clear()
    yield it
    dial.tls_context.cache_clear()


def send(server: Server, host: str) -> Reply:
    return post(
        f"https://{host}:{server.port}/hook",
        body=b"{}",
        headers={},
        policy=policy(f"{HOST}/32", ports=(server.port,)),
        timeout=SECONDS,
    )


def test_the_name_is_kept_and_the_address_is_dialled(authority: Authority, zone: Zone) -> None:
    zone.add("hooks.test", [HOST])
    tls = authority.server("hooks.test")
    names = listen_to_names(tls)
    with answering(b"ok", tls=tls) as server:
        assert send(server, "hooks.test").body == b"ok"
    assert names == ["hooks.test"]
    assert server.requests[0].headers["host"] == f"hooks.test:{server.port}"
    assert zone.asked["hooks.test", "A"] == 1


def test_an_international_name_is_sent_in_its_ascii_form(authority: Authority, zone: Zone) -> None:
    zone.add("xn--bcher-kva.test", [HOST])
    tls = authority.server("xn--bcher-kva.test")
    names = listen_to_names(tls)
    with answering(b"", tls=tls) as server:
        send(server, "Bücher.test.")
    assert names == ["xn--bcher-kva.test"]


def test_a_file_is_fetched_over_it(authority: Authority, zone: Zone, tmp_path: Path) -> None:
    zone.add("files.test", [HOST])
    with answering(b"film" * 50_000, tls=authority.server("files.test")) as server:
        allowed = policy(f"{HOST}/32", ports=(server.port,))
        url = f"https://files.test:{server.port}/clip.mp4"
        found = fetch(url, tmp_path / "file", policy=allowed, max_bytes=10**6)
    assert (tmp_path / "file").read_bytes() == b"film" * 50_000
    assert (found.size_bytes, found.filename) == (200_000, "clip.mp4")


def test_an_address_needs_a_certificate_for_the_address(authority: Authority) -> None:
    with answering(b"", tls=authority.server(HOST)) as server:
        assert send(server, HOST).status == 200
    with answering(b"", tls=authority.server("hooks.test")) as server, pytest.raises(Unreachable) as caught:
        send(server, HOST)
    assert caught.value.code == "tls_failed"


@pytest.mark.parametrize(
    ("name", "expired"), [("other.test", False), (HOST, False), ("*.hooks.test", False), ("hooks.test", True)]
)
def test_a_wrong_certificate_gets_no_request(
    authority: Authority, zone: Zone, name: str, *, expired: bool
) -> None:
    zone.add("hooks.test", [HOST])
    with (
        answering(b"", tls=authority.server(name, expired=expired)) as server,
        pytest.raises(Unreachable) as caught,
    ):
        send(server, "hooks.test")
    assert caught.value.code == "tls_failed"
    assert name not in str(caught.value.problem())
    assert server.requests == []


def test_a_strangers_authority_is_not_trusted(authority: Authority, zone: Zone, tmp_path: Path) -> None:
    zone.add("hooks.test", [HOST])
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    assert stranger.path != authority.path
    with answering(b"", tls=stranger.server("hooks.test")) as server, pytest.raises(Unreachable) as caught:
        send(server, "hooks.test")
    assert caught.value.code == "tls_failed"
    assert server.requests == []


@pytest.mark.usefixtures("authority")
def test_a_server_without_tls_is_no_tls_server() -> None:
    with answering(b"") as server, pytest.raises(Unreachable) as caught:
        send(server, HOST)
    assert caught.value.code == "tls_failed"
    assert server.requests == []


@pytest.mark.usefixtures("authority")
def test_an_old_protocol_is_refused(authority: Authority) -> None:
    tls = authority.server(HOST)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with answering(b"", tls=tls) as server, pytest.raises(Unreachable) as caught:
        send(server, HOST)
    assert caught.value.code == "tls_failed"


@pytest.mark.usefixtures("authority")
def test_a_connection_that_ends_in_the_handshake_is_lost_not_mistrusted() -> None:
    with speaking(lambda _caller: None) as server, pytest.raises(Unreachable) as caught:
        send(server, HOST)
    assert caught.value.code == "connection_lost"


@pytest.mark.usefixtures("authority")
def test_a_cancellation_is_noticed_in_a_handshake_that_hangs(tmp_path: Path) -> None:
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Fenced

    def hang(caller: socket.socket) -> None:
        caller.recv(65536)

    with speaking(hang) as server, pytest.raises(Fenced):
        fetch(
            f"https://{HOST}:{server.port}/",
            tmp_path / "file",
            policy=policy(f"{HOST}/32", ports=(server.port,)),
            max_bytes=1,
            checkpoint=checkpoint,
        )


def test_https_is_never_left_for_http(authority: Authority, tmp_path: Path) -> None:
    with answering(b"film") as plain:
        moved = {"Location": plain.url}
        with answering(b"", status=301, headers=moved, tls=authority.server(HOST)) as server:
            allowed = policy(f"{HOST}/32", ports=(server.port, plain.port))
            with pytest.raises(UnsafeUrl):
                fetch(server.url, tmp_path / "file", policy=allowed, max_bytes=10)
    assert plain.requests == []


def test_http_may_lead_to_https(authority: Authority, tmp_path: Path) -> None:
    with (
        answering(b"film", tls=authority.server(HOST)) as secure,
        answering(b"", status=301, headers={"Location": secure.url}) as server,
    ):
        allowed = policy(f"{HOST}/32", ports=(server.port, secure.port))
        found = fetch(server.url, tmp_path / "file", policy=allowed, max_bytes=10)
    assert found.url == secure.url
