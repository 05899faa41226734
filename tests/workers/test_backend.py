"""A worker outlives its broker, whatever its task does meanwhile, and takes work again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from celery import chord

from cli.stack.servers import ValkeyServer
from core.queue import Queue
from tests.cli.stack.patience import eventually
from tests.workers.running import command, worker
from tests.workers.waiting import note, wait
from workers.app import app

PATIENCE = 90.0


def send(folder: Path) -> Path:
    """A chord of one header, as branches are sent."""
    folder.mkdir()
    header = wait.signature((str(folder),), immutable=True, queue=Queue.EXTRACTION.value)
    body = note.signature((str(folder),), immutable=True, queue=Queue.EXTRACTION.value)
    chord([header])(body, retry=False)
    return folder


def child_of(pid: int) -> psutil.Process:
    """The one process of the pool."""
    (found,) = [p for p in psutil.Process(pid).children() if "spawn_main" in " ".join(p.cmdline())]
    return found


def release(folder: Path, _: int) -> None:
    (folder / "released").touch()


def kill(_: Path, pid: int) -> None:
    child_of(pid).kill()


@pytest.mark.parametrize("end", [release, kill])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_ends_while_the_broker_is_away_does_not_stop_its_worker(
    own_broker: ValkeyServer, tmp_path: Path, end: Callable[[Path, int], None], number: signal.Signals
) -> None:
    words = [word.replace("workers.app", "tests.workers.waiting") for word in command(Queue.EXTRACTION)]
    with worker(tmp_path / "log", words) as process:
        first = send(tmp_path / "first")
        eventually((first / "begun").exists, PATIENCE)
        os.kill(own_broker.pid, number)
        end(first, process.pid)
        own_broker.stop()
        own_broker.start()
        second = send(tmp_path / "second")
        release(second, 0)
        eventually((second / "noted").exists, PATIENCE)
        assert process.poll() is None


def test_a_chord_is_rung_for_without_any_result_in_the_broker(
    own_broker: ValkeyServer, tmp_path: Path
) -> None:
    words = [word.replace("workers.app", "tests.workers.waiting") for word in command(Queue.EXTRACTION)]
    with worker(tmp_path / "log", words):
        folder = send(tmp_path / "only")
        release(folder, 0)
        eventually((folder / "noted").exists, PATIENCE)
        with app.connection_for_read() as connection:
            keys = connection.default_channel.client.keys("*")
        assert not [key for key in keys if b"celery-task-meta" in key]
    assert own_broker.pid
