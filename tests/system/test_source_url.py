"""Submissions by URL on a running stack, from outside: a web server on this machine, allowed by settings."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.client import Client
from tests.system.conftest import RunningStack, running_stack
from tests.system.media import FACE_AND_VOICE, shared
from tests.workers.outbound.server import HOST, Seen, Server, answering, serving, speaking
from tests.workers.outbound.trap import Trap

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with Trap() as it:
        yield it


@pytest.fixture(scope="module")
def films() -> Iterator[Server]:
    with answering(FACE_AND_VOICE.read_bytes(), headers={"Content-Type": "video/mp4"}) as server:
        yield server


@pytest.fixture(scope="module")
def recording() -> Iterator[Server]:
    """Files of the shared media, under a script as many servers have it; read when they are asked for."""

    def send(handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        clip = shared(seen.path.rpartition("=")[2]).read_bytes()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", str(len(clip)))
        handler.send_header("Content-Disposition", "attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe.mp4")
        handler.end_headers()
        handler.wfile.write(clip)

    with serving(send) as server:
        yield server


@pytest.fixture(scope="module")
def detour(trap: Trap) -> Iterator[Server]:
    """Leads astray."""
    location = {"Location": f"http://127.0.0.1:{trap.port}/secret.mp4"}
    with answering(b"", status=302, headers=location) as server:
        yield server


class Silence:
    """A server that takes a request, says nothing, and notes how that ends."""

    def __init__(self) -> None:
        self.asked, self.ended = threading.Event(), threading.Event()
        self.last: bytes | None = None

    def keep(self, caller: socket.socket) -> None:
        self.asked.set()
        try:
            self.last = caller.recv(1)  # empty: the other side hung up
        finally:
            self.ended.set()


@pytest.fixture(scope="module")
def silence() -> Iterator[tuple[Silence, Server]]:
    it = Silence()
    with speaking(it.keep) as server:
        yield it, server


@pytest.fixture(scope="module")
def allowing(
    tmp_path_factory: pytest.TempPathFactory,
    films: Server,
    recording: Server,
    detour: Server,
    silence: tuple[Silence, Server],
    trap: Trap,
) -> Iterator[RunningStack]:
    """May fetch from one address of this machine; the trap's port is allowed, its address is not."""
    ports = ", ".join(str(it.port) for it in (films, recording, detour, silence[1], trap))
    settings = {
        "DEEPDEFEND_SOURCE_URL__ALLOWED_NETWORKS": f'["{HOST}/32"]',
        "DEEPDEFEND_SOURCE_URL__ALLOWED_PORTS": f"[{ports}]",
        "DEEPDEFEND_SOURCE_URL__IDLE_TIMEOUT": "PT10M",
    }
    with running_stack(tmp_path_factory.mktemp("allowing") / "data", **settings) as it:
        yield it


def submit(stack: RunningStack, url: str) -> httpx2.Response:
    return httpx2.post(
        stack.api_url + "/v1/analyses",
        headers={"Authorization": f"Bearer {stack.api_key}"},
        files={"source_url": (None, url)},
        timeout=60,
    )


def ended(stack: RunningStack, url: str) -> dict[str, Any]:
    response = submit(stack, url)
    assert response.status_code == 202, response.text
    assert response.json()["media"] is None
    with Client(stack.api_url, stack.api_key) as client:
        return dict(client.wait(response.json()["id"]))


def test_a_file_behind_a_url_is_analysed(allowing: RunningStack, films: Server) -> None:
    envelope = ended(allowing, f"{films.url}clips/Face%20and%20voice.mp4")
    assert envelope["status"] == "completed", envelope["error"]
    assert envelope["media"]["filename"] == "Face and voice.mp4"
    assert envelope["media"]["sha256"] == digest(FACE_AND_VOICE)
    assert envelope["source_url"] == f"{films.url}clips/Face%20and%20voice.mp4"
    assert envelope["report"]["total_intervals_analyzed"] > 0
    assert {stage["status"] for stage in envelope["progress"]["stages"]} <= {"done", "skipped"}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_real_recording_is_analysed(allowing: RunningStack, recording: Server) -> None:
    clip = shared("real_talking_person_grid_lbax4n.mp4")
    envelope = ended(allowing, f"{recording.url}download.php?file={clip.name}")
    assert envelope["status"] == "completed", envelope["error"]
    assert envelope["media"]["sha256"] == digest(clip)
    assert envelope["media"]["filename"] == "Grüße.mp4"
    assert envelope["media"]["facts"]["video"]["codec"] == "h264"


def test_the_same_bytes_again_share_their_media(allowing: RunningStack, films: Server) -> None:
    first, second = (ended(allowing, f"{films.url}{n}.mp4") for n in range(2))
    assert first["media"]["sha256"] == second["media"]["sha256"]
    assert (first["media"]["filename"], second["media"]["filename"]) == ("0.mp4", "1.mp4")


def test_what_is_not_allowed_is_refused_at_the_door(allowing: RunningStack, trap: Trap) -> None:
    for url in (f"http://127.0.0.1:{trap.port}/", f"http://[::1]:{trap.port}/", "http://169.254.169.254/"):
        response = submit(allowing, url)
        assert (response.status_code, response.json()["code"]) == (422, "unsafe_url")
    assert trap.count == 0


def test_a_name_that_leads_astray_fails_with_its_reason(allowing: RunningStack, trap: Trap) -> None:
    envelope = ended(allowing, f"http://localhost:{trap.port}/clip.mp4")
    assert (envelope["status"], envelope["error"]["code"]) == ("failed", "source_unsafe_url")
    assert envelope["media"] is None
    assert "127.0.0.1" not in str(envelope["error"])
    assert trap.count == 0


def test_a_redirect_that_leads_astray_fails_with_its_reason(
    allowing: RunningStack, detour: Server, trap: Trap
) -> None:
    envelope = ended(allowing, detour.url)
    assert (envelope["status"], envelope["error"]["code"]) == ("failed", "source_unsafe_url")
    assert len(detour.requests) == 1
    assert trap.count == 0


def test_a_cancellation_hangs_up(allowing: RunningStack, silence: tuple[Silence, Server]) -> None:
    """The test's server would wait half a minute, the fetch ten: neither gives up before the cancellation."""
    it, server = silence
    identity = submit(allowing, server.url).json()["id"]
    assert it.asked.wait(30)
    with Client(allowing.api_url, allowing.api_key) as client:
        assert client.cancel(identity)["status"] == "canceled"
    assert it.ended.wait(30)
    assert it.last == b""


def test_a_stack_that_allows_nothing_takes_no_private_address(stack: RunningStack, films: Server) -> None:
    before = len(films.requests)
    response = submit(stack, films.url)
    assert (response.status_code, response.json()["code"]) == (422, "unsafe_url")
    assert len(films.requests) == before
