"""The single processes become the real programs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, inspect
from typer.testing import CliRunner

from cli import processes
from cli.main import app
from cli.stack import commands
from core.queue import Queue

Became = list[tuple[str, ...]]


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> Became:
    """What the process would have turned into; a test cannot survive the real thing."""
    seen: Became = []
    monkeypatch.setattr(os, "execv", lambda _path, command: seen.append(command))
    return seen


def test_a_worker_for_heavy_queues_has_a_process_of_its_own(became: Became) -> None:
    assert CliRunner().invoke(app, ["worker", "video"]).exit_code == 0
    assert became == [commands.worker([Queue.VIDEO])]
    words = " ".join(became[0])
    assert "--queues video.interactive,video,video.batch" in words
    assert "--hostname video@%h" in words
    assert "--pool prefork --concurrency 1" in words


def test_a_worker_for_light_queues_has_threads(became: Became) -> None:
    assert CliRunner().invoke(app, ["worker", "fusion", "webhooks", "--concurrency", "9"]).exit_code == 0
    words = " ".join(became[0])
    assert "--queues fusion.interactive,fusion,fusion.batch,webhooks" in words
    assert "--hostname fusion-webhooks@%h" in words
    assert "--pool threads --concurrency 9" in words


def test_webhooks_are_posted_by_a_process_of_their_own_with_more_threads(became: Became) -> None:
    assert (Queue.WEBHOOKS,) in commands.WORKERS
    for queue, threads in (("webhooks", 16), ("fusion", 4)):
        became.clear()
        assert CliRunner().invoke(app, ["worker", queue]).exit_code == 0
        assert f"--pool threads --concurrency {threads} --hostname {queue}@%h" in " ".join(became[0])


@pytest.mark.parametrize(
    ("lanes", "queues", "name"),
    [
        (["interactive"], "extraction.interactive", "extraction-interactive"),
        (["batch", "interactive"], "extraction.interactive,extraction.batch", "extraction-interactive-batch"),
        (["standard"], "extraction", "extraction-standard"),
        (
            ["standard", "batch", "interactive"],
            "extraction.interactive,extraction,extraction.batch",
            "extraction",
        ),
    ],
)
def test_a_worker_may_be_kept_for_a_lane(lanes: list[str], queues: str, name: str, became: Became) -> None:
    options = [word for lane in lanes for word in ("--lane", lane)]
    assert CliRunner().invoke(app, ["worker", "extraction", *options]).exit_code == 0
    words = list(became[0])
    assert words[words.index("--queues") + 1] == queues
    assert words[words.index("--hostname") + 1] == f"{name}@%h"


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker"],
        ["worker", "vidéo"],
        ["worker", "extraction.interactive"],
        ["worker", "video", "--lane", "express"],
        ["worker", "video", "--concurrency", "0"],
    ],
)
def test_a_worker_needs_queues_that_exist(arguments: list[str], became: Became) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not became


def test_the_workers_of_a_stack_serve_every_queue_once() -> None:
    assert sorted(queue for queues in commands.WORKERS for queue in queues) == sorted(Queue)


def test_the_api_and_the_dispatcher(became: Became) -> None:
    assert CliRunner().invoke(app, ["api", "--host", "0.0.0.0", "--port", "80"]).exit_code == 0  # noqa: S104
    assert CliRunner().invoke(app, ["dispatcher"]).exit_code == 0
    assert became == [commands.api("0.0.0.0", 80), commands.dispatcher()]  # noqa: S104


@pytest.fixture
def served() -> Iterator[int]:
    """The port of the API as its command starts it; none of its servers is there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = {
        "DEEPDEFEND_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "DEEPDEFEND_BROKER_URL": "redis://127.0.0.1:1/0",
        "DEEPDEFEND_SECRET_KEY": "k" * 32,
    }
    with subprocess.Popen(
        commands.api("127.0.0.1", port), env=os.environ | nowhere, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("running on" in line for line in process.stderr)
        yield port
        process.terminate()
        process.stderr.read()


def test_a_websocket_is_answered_by_the_middleware(served: int) -> None:
    """uvicorn's own handshake would pass by the security headers, the bounds and the log's discretion."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eHh4eHh4eHh4eHh4eHh4eA==",
    }
    url = f"http://127.0.0.1:{served}/v1/stats"
    answer = httpx2.get(url, headers=upgrade, trust_env=False, timeout=20)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-request-id" in answer.headers


def test_flower_refuses_to_run_open_to_everyone(became: Became, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    refused = CliRunner().invoke(app, ["flower"])
    assert refused.exit_code == 1
    assert "FLOWER_BASIC_AUTH" in refused.output
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "me:secret")
    assert CliRunner().invoke(app, ["flower"]).exit_code == 0
    assert became == [commands.flower("127.0.0.1", 5555)]
    assert "secret" not in " ".join(became[0])


def test_becoming_keeps_the_process_and_gives_its_exit_status() -> None:
    code = "from cli.processes import _become; _become(('/bin/sh', '-c', 'echo $$; exit 7'))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        output, _ = process.communicate()
    assert int(output) == process.pid
    assert process.returncode == 7


def test_migrate_builds_the_schema(database: str) -> None:
    done = CliRunner().invoke(app, ["migrate"])
    assert done.exit_code == 0, done.output
    engine = create_engine(database.replace("postgresql://", "postgresql+psycopg2://"))
    assert {"analyses", "steps", "api_keys"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_the_programs_are_those_of_this_interpreter() -> None:
    for command in (commands.api("h", 1), commands.dispatcher(), commands.flower("h", 1)):
        assert Path(command[0]) == Path(sys.executable)
    assert processes.api.__doc__
