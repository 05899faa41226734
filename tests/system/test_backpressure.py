"""A stack whose parts are away or full says so before it is sent anything, and goes on where it can."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from cli.client import Client
from tests.api.server import Raw
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack, running_stack
from tests.system.media import VOICE

pytestmark = pytest.mark.system
GIGABYTE = 1024**3


def knock(stack: RunningStack) -> tuple[int, str | None, str | None]:
    """Status, code and Retry-After of a large upload that waits to be told to go on; 100 when it is."""
    address = urlsplit(stack.api_url)
    assert address.hostname is not None
    assert address.port is not None
    with Raw((address.hostname, address.port)) as raw:
        raw.head(
            f"Authorization: Bearer {stack.api_key}",
            "Content-Type: multipart/form-data; boundary=b",
            f"Content-Length: {GIGABYTE // 4}",
            "Expect: 100-continue",
        )
        status, headers, problem = raw.answer()
        return status, problem and problem["code"], headers.get("retry-after")


@contextmanager
def frozen(stack: RunningStack, words: str) -> Iterator[None]:
    """A server that answers nothing and refuses nothing: the worst way to be away."""
    process = stack.find(words)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def ready(stack: RunningStack) -> str:
    answer = httpx2.get(f"{stack.api_url}/readyz", timeout=30)
    status: str = answer.json()["status"]
    return status


def submit(stack: RunningStack) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with VOICE.open("rb") as file:
        return httpx2.post(
            f"{stack.api_url}/v1/analyses", headers=headers, files={"file": ("a.wav", file)}, timeout=60
        )


def test_a_frozen_storage_is_said_before_the_body_and_forgotten_after(stack: RunningStack) -> None:
    assert knock(stack)[0] == 100
    with frozen(stack, "-s3.config="):
        eventually(lambda: knock(stack)[0] != 100, 30)
        assert knock(stack) == (503, "storage_unavailable", "5")
        assert ready(stack) == "unavailable"
    eventually(lambda: knock(stack)[0] == 100, 60)
    eventually(lambda: submit(stack).status_code == 202, 60)


def test_a_frozen_redis_refuses_nothing_and_the_work_starts_when_it_is_back(stack: RunningStack) -> None:
    with frozen(stack, "valkey-server"):
        accepted = submit(stack)
        assert accepted.status_code == 202
        assert ready(stack) == "degraded"
    with Client(stack.api_url, stack.api_key) as client:
        assert client.wait(accepted.json()["id"])["status"] == "completed"


def test_a_full_disk_is_said_before_the_body(tmp_path: Path) -> None:
    full = {"DEEPDEFEND_ADMISSION__MIN_FREE_BYTES": str(2**60)}
    with running_stack(tmp_path / "data", **full) as it:
        assert knock(it) == (503, "disk_full", "60")
        assert ready(it) != "unavailable", "what was accepted before goes on, and can be read"
        assert httpx2.get(it.api_url, timeout=30).status_code == 200
