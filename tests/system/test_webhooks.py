"""A running stack tells a receiver that is 20 lines of the manual and somebody else's library."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.client import Client
from cli.stack.ports import free_port
from tests.cli.stack.patience import eventually
from tests.core.webhooks.receiver import Answer, Receiver, receiving
from tests.system.conftest import RunningStack, running_stack
from tests.system.media import VOICE

pytestmark = pytest.mark.system
MANUAL = Path(__file__).parents[2] / "docs" / "webhooks.md"
ENDPOINTS = "/v1/webhook-endpoints"
#: A port that the manual's receiver listens on, and one for ours.
THEIRS = free_port()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Ours: it can be slow, and remembers every request."""
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[RunningStack]:
    """A stack that may call the loopback, and soon gives up on a receiver."""
    environment = {
        "DEEPDEFEND_WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "DEEPDEFEND_WEBHOOKS__ALLOWED_PORTS": f"[{THEIRS}, {receiver.port}]",
        "DEEPDEFEND_WEBHOOKS__TIMEOUT": "PT10S",
        "DEEPDEFEND_STEPS__REPUBLISH_AFTER": "PT3S",
    }
    with running_stack(tmp_path_factory.mktemp("webhooks") / "data", **environment) as it:
        yield it


@contextmanager
def from_the_manual(folder: Path, secret: str) -> Iterator[Path]:
    """The receiver of docs/webhooks.md as a program of its own; where it writes what it was told."""
    program, output = folder / "receiver.py", folder / f"told-{secret[-6:-2].replace('/', '_')}"
    (code,) = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    program.write_text(code)
    command = [sys.executable, str(program), secret, str(THEIRS)]
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            eventually(listening)
            yield output
        finally:
            process.kill()


def listening() -> bool:
    try:
        return httpx2.post(f"http://127.0.0.1:{THEIRS}/", content=b"{}").status_code == 401
    except httpx2.TransportError:
        return False


class Owner:
    """Calls the API with the stack's key."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._headers = {"Authorization": f"Bearer {stack.api_key}"}

    def call(self, method: str, path: str, **options: Any) -> Any:
        url = self._stack.api_url.rstrip("/") + path
        response = httpx2.request(method, url, headers=self._headers, timeout=30, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def log(self, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.call("GET", endpoint["links"]["deliveries"])["items"]
        return items


@pytest.fixture
def owner(stack: RunningStack) -> Owner:
    return Owner(stack)


def submitted(stack: RunningStack) -> str:
    with Client(stack.api_url, stack.api_key) as client:
        return str(client.submit(VOICE)["id"])


def said(output: Path, word: str, times: int = 1) -> bool:
    return sum(line.startswith(word) for line in output.read_text().splitlines()) == times


def test_the_manuals_receiver_is_told_across_a_rotation(
    stack: RunningStack, owner: Owner, tmp_path: Path
) -> None:
    made = owner.call("POST", ENDPOINTS, json={"url": f"http://127.0.0.1:{THEIRS}/hook"})
    here = made["links"]["self"]
    with from_the_manual(tmp_path, made["secret"]) as output:
        owner.call("POST", f"{here}/test")
        eventually(lambda: said(output, "webhook.test"))
        identity = submitted(stack)
        eventually(lambda: said(output, "analysis.completed"), seconds=120)
        assert identity in output.read_text()
        turned = owner.call("POST", f"{here}/rotate-secret")
        (delivery,) = [item for item in owner.log(made) if item["analysis_id"] == identity]
        second = submitted(stack)  # told while both secrets sign
        eventually(lambda: said(output, "analysis.completed", 2), seconds=120)
        assert second in output.read_text()
    assert delivery["status"] == "delivered"
    assert [attempt["status"] for attempt in delivery["attempts"]] == [204]
    with from_the_manual(tmp_path, turned["secret"]) as output:
        owner.call("POST", f"{delivery['links']['self']}/redeliver")
        eventually(lambda: said(output, "analysis.completed"))
        assert identity in output.read_text()
    with from_the_manual(tmp_path, "whsec_" + "c29tZWJvZHkgZWxzZQ==") as output:
        owner.call("POST", f"{delivery['links']['self']}/redeliver")
        eventually(lambda: owner.call("GET", delivery["links"]["self"])["attempts"][-1]["status"] == 401)
        assert not said(output, "analysis.completed")
    owner.call("DELETE", here)


def test_a_worker_killed_while_it_sends_sends_it_again_under_the_same_id(
    stack: RunningStack, owner: Owner, receiver: Receiver
) -> None:
    made = owner.call("POST", ENDPOINTS, json={"url": receiver.url})
    never = threading.Event()
    receiver.answers, receiver.calls = [Answer(after=never)], []
    owner.call("POST", f"{made['links']['self']}/test")
    eventually(lambda: receiver.calls)
    stack.find("--queues webhooks").kill()
    eventually(lambda: len(receiver.calls) == 2, seconds=90)
    never.set()
    first, second = receiver.calls
    assert first.event_id == second.event_id
    assert first.verified(made["secret"])["type"] == second.verified(made["secret"])["type"] == "webhook.test"
    eventually(lambda: owner.log(made)[0]["status"] == "delivered")
    errors = [attempt["error"] for attempt in owner.log(made)[0]["attempts"]]
    assert errors == ["worker_lost", None]
    owner.call("DELETE", made["links"]["self"])


def test_receivers_that_never_answer_stop_neither_verdicts_nor_others(
    stack: RunningStack, owner: Owner, receiver: Receiver, tmp_path: Path
) -> None:
    never = threading.Event()
    receiver.answers, receiver.calls = [Answer(after=never) for _ in range(100)], []
    slow = owner.call("POST", ENDPOINTS, json={"url": receiver.url, "events": ["analysis.canceled"]})
    quick = owner.call("POST", ENDPOINTS, json={"url": f"http://127.0.0.1:{THEIRS}/hook"})
    with from_the_manual(tmp_path, quick["secret"]) as output:
        for _ in range(8):
            owner.call("POST", f"/v1/analyses/{submitted(stack)}/cancel")
        eventually(lambda: len(receiver.calls) >= 2)
        with Client(stack.api_url, stack.api_key) as client:
            assert client.wait(submitted(stack))["status"] == "completed"
        eventually(lambda: said(output, "analysis.canceled", 8), seconds=60)
        eventually(lambda: said(output, "analysis.completed"), seconds=60)
    assert "delivered" not in {item["status"] for item in owner.log(slow)}
    never.set()
    receiver.answers = []
    for made in (slow, quick):
        owner.call("DELETE", made["links"]["self"])


def test_what_is_owed_while_valkey_is_away_is_told_when_it_is_back(
    stack: RunningStack, owner: Owner, receiver: Receiver
) -> None:
    made = owner.call("POST", ENDPOINTS, json={"url": receiver.url})
    receiver.answers, receiver.calls = [], []
    valkey = stack.find("valkey-server")
    valkey.suspend()
    try:
        owner.call("POST", f"{made['links']['self']}/test")
        assert owner.log(made)[0]["status"] == "owed"
    finally:
        valkey.kill()  # it comes back without its data
    eventually(lambda: receiver.calls, seconds=90)
    assert receiver.calls[0].verified(made["secret"])["type"] == "webhook.test"
    eventually(lambda: owner.log(made)[0]["status"] == "delivered")
