"""Starting, surviving and ending, as a person meets them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.client import Client
from cli.demo import sample
from tests.cli.stack.patience import eventually
from tests.system.conftest import RunningStack, clean_environment, running_stack

pytestmark = pytest.mark.system


def get(stack: RunningStack, path: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    return httpx2.get(stack.api_url + path, headers=headers, timeout=30)


def works(stack: RunningStack) -> bool:
    try:
        return get(stack, "/v1/analyses").status_code == 200 and get(stack, "/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)


def test_it_says_where_it_is_and_takes_work(stack: RunningStack) -> None:
    assert works(stack)
    known = json.loads(stack.folder.running.read_text())
    assert known == {
        "api_url": stack.api_url,
        "api_key": stack.api_key,
        "flower_url": stack.flower_url,
    }
    assert stack.folder.api_key.read_text().strip() == stack.api_key
    for private in (stack.folder.api_key, stack.folder.running):
        assert private.stat().st_mode & 0o777 == 0o600


def test_flower_asks_for_its_password(stack: RunningStack) -> None:
    assert httpx2.get(stack.flower_url).status_code == 200
    bare = httpx2.URL(stack.flower_url).copy_with(username=None, password=None)
    assert httpx2.get(bare).status_code == 401


def test_no_secret_is_on_a_command_line(stack: RunningStack) -> None:
    secrets = [stack.api_key, str(httpx2.URL(stack.flower_url).password)]
    for name in ("postgres", "valkey", "s3"):
        state = json.loads((stack.data_dir / name / "state.json").read_text())
        secrets += [value for value in state.values() if isinstance(value, str)]
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize(
    "words", ["--queues video", "uvicorn", "workers.dispatcher", "postgres -D", "valkey-server"]
)
def test_a_child_that_is_killed_comes_back(stack: RunningStack, words: str) -> None:
    child = stack.find(words)
    child.kill()
    child.wait()
    eventually(lambda: [p for p in stack.everything() if p != child.pid] and _found(stack, words), 60)
    eventually(lambda: works(stack), 60)


def _found(stack: RunningStack, words: str) -> Any:
    try:
        return stack.find(words)
    except ValueError:
        return None


def test_the_same_directory_serves_one_stack_at_a_time(stack: RunningStack) -> None:
    second = run("up", "--data-dir", str(stack.data_dir), "--port", "18999", "--flower-port", "18998")
    assert second.returncode == 1
    assert second.stderr == (
        f"deepdefend: {stack.data_dir} is in use by another stack (process {stack.process.pid})\n"
    )
    assert works(stack)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--port", "--flower-port"):
            refused = run("up", "--data-dir", str(tmp_path / "data"), "--port", "18997", option, str(port))
            assert refused.returncode == 1
            assert refused.stderr.count("\n") == 1
            assert f"port {port} (Address already in use); choose another with {option}" in refused.stderr
            assert not refused.stdout


def test_one_port_for_both_is_refused_before_anything_starts(tmp_path: Path) -> None:
    data = tmp_path / "data"
    refused = run("up", "--data-dir", str(data), "--port", "18997", "--flower-port", "18997")
    assert refused.returncode == 1
    assert refused.stderr == "deepdefend: --port and --flower-port are both 18997; they must differ\n"
    assert not data.exists()


def test_an_unwritable_directory_is_one_clear_line() -> None:
    refused = run("up", "--data-dir", "/proc/deepdefend", "--port", "18996", "--flower-port", "18995")
    assert refused.returncode == 1
    assert refused.stderr == "deepdefend: cannot write to /proc/deepdefend: No such file or directory\n"


def test_a_setting_that_makes_no_sense_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="DEEPDEFEND_LIMITS__MAX_STREAMS is not usable"):
        RunningStack(tmp_path / "data", {"DEEPDEFEND_LIMITS__MAX_STREAMS": "none"}).start()


def test_an_interruption_while_starting_leaves_nothing(tmp_path: Path) -> None:
    it = RunningStack(tmp_path / "data")
    it.launch()
    eventually(lambda: "postgres is ready" in it.errors.read_text(), 60)
    assert it.stop(signal.SIGINT) == 0
    assert it.everything() == []


def test_work_survives_an_orderly_end_and_kill_9(stack: RunningStack, tmp_path: Path) -> None:
    with running_stack(tmp_path / "data") as other:
        with Client(other.api_url, other.api_key) as client:
            done = client.wait(client.submit(sample())["id"])
        assert done["status"] == "completed"
        assert works(stack), "two stacks live side by side"
        assert get(stack, f"/v1/analyses/{done['id']}").status_code == 404, "and know nothing of each other"
        key = other.api_key
        assert other.stop() == 0
        assert other.everything() == []
        assert not other.folder.running.exists()

        other.start()
        assert other.api_key == key
        assert get(other, f"/v1/analyses/{done['id']}").json()["report"] == done["report"]
        other.process.kill()
        other.process.communicate()
        eventually(lambda: other.everything() == [], 60)

        other.start()
        assert get(other, f"/v1/analyses/{done['id']}").json()["report"] == done["report"]


def test_the_demo_shows_a_report_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("demo", "--data-dir", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "Verdict: INCONCLUSIVE" in done.stdout  # no weights here, and it says so
    assert "no_detector_weights" in done.stdout
    assert "fuse done" in done.stderr
    assert RunningStack(tmp_path / "demo").everything() == []


def test_the_demo_of_a_file_that_is_none_fails(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    done = run("demo", "--data-dir", str(tmp_path / "demo"), str(tmp_path / "text.mp4"))
    assert done.returncode == 1
    assert "text.mp4" in done.stderr
    assert RunningStack(tmp_path / "demo").everything() == []
