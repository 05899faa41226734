"""The looks of `deepdefend doctor` one by one: this machine, clocks, passwords."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from cli.doctor import database, machine, servers
from cli.doctor.finding import Finding, State
from core.config import ModelSettings, S3Settings, settings
from tests.checkpoints import make_image_checkpoint
from tests.conftest import NOWHERE
from workers.media import sandbox


@contextmanager
def a_server_that_says(date: str | None) -> Iterator[str]:
    """An HTTP server that refuses everything, at a time of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(403)
            if date is not None:
                self.send_header("Date", date)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Tests are quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_storage_in_another_year() -> None:
    with a_server_that_says("Thu, 01 Jan 2015 00:00:00 GMT") as url:
        found = servers._clock(S3Settings(endpoint_url=url))
    assert found.state is State.FAIL
    assert "behind ours" in found.said

    for says in (None, "yesterday"):
        with a_server_that_says(says) as url:
            assert servers._clock(S3Settings(endpoint_url=url)).state is State.SKIPPED
    assert servers._clock(S3Settings(endpoint_url=f"http://{NOWHERE}")).state is State.SKIPPED


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        (0.1, State.OK),
        (-4.9, State.OK),
        (5.0, State.WARN),
        (-60.0, State.WARN),
        (300.0, State.FAIL),
        (-9e9, State.FAIL),
    ],
)
def test_clocks_apart(seconds: float, state: State) -> None:
    assert database.skew("clock", seconds).state is state


@pytest.mark.parametrize(
    ("accounts", "environment", "state"),
    [
        (None, "development", State.SKIPPED),
        ("flower:flower", "development", State.WARN),
        ("flower:flower", "production", State.FAIL),
        ("ops:9f86d081884c7d65", "production", State.OK),
    ],
)
def test_flowers_password(accounts: str | None, environment: str, state: State) -> None:
    changed = settings().model_copy(update={"environment": environment})

    assert servers.flower(changed, accounts).state is state


@pytest.fixture
def no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_bubblewrap")
def test_a_host_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine.sandbox(required=False)
    assert found.state is State.WARN
    assert "bubblewrap is not installed" in found.said

    assert machine.sandbox(required=True).state is State.FAIL

    monkeypatch.setattr(sandbox, "FILTER", False)
    bare = machine.sandbox(required=False)
    assert bare.facts["calls"] is False
    assert "open connections" in str(bare.means)


def test_test_detectors_are_admitted(tmp_path: Path) -> None:
    named = ModelSettings(dir=tmp_path)
    make_image_checkpoint(tmp_path / named.video.replace("/", "--"))

    video, audio = machine.detectors(named, allow_test=True)

    assert (video.state, audio.state) == (State.WARN, State.WARN)
    assert "made for tests" in video.said
    assert audio.mend == "deepdefend models pull audio"


def test_a_gpu_that_is_asked_for_and_not_there() -> None:
    found = machine.device("cuda")

    assert found.state is (State.OK if torch.cuda.is_available() else State.FAIL)
    assert machine.device("auto").state is State.OK


def test_disks(tmp_path: Path) -> None:
    def look(**changes: Any) -> list[Finding]:
        return list(machine.disks(settings().model_copy(update=changes)))

    assert look(temp_dir=tmp_path / "missing")[0].state is State.FAIL
    huge = settings().admission.model_copy(update={"min_free_bytes": 1 << 60, "disks": (tmp_path,)})
    assert [one.state for one in look(temp_dir=tmp_path, admission=huge)] == [State.FAIL, State.FAIL]
    calm = settings().admission.model_copy(update={"min_free_bytes": 0})
    assert look(temp_dir=tmp_path, admission=calm)[0].state in {State.OK, State.WARN}
    assert list(tmp_path.iterdir()) == []


def test_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PYTHON", (3, 99))

    assert machine.python().state is State.FAIL
