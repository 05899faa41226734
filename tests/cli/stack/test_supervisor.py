"""Restarting, ending, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from cli.stack import StackError, supervisor
from cli.stack.child import Child, Service
from cli.stack.sentinel import sweep, tagged
from cli.stack.supervisor import Supervisor
from tests.cli.stack.patience import eventually

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(600)
"""
DAEMON = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("on", flush=True)
time.sleep(600)
"""


def service(folder: Path, name: str, code: str = SLEEP, **more: object) -> Service:
    command = (sys.executable, "-c", code)
    return Service(name=name, command=command, log=folder / f"{name}.log", tag=f"{folder}#1", **more)  # type: ignore[arg-type]


def gone(folder: Path) -> bool:
    return not tagged(f"{folder}#")


class Heard(list[str]):
    """What the supervisor said."""

    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def said() -> Heard:
    return Heard()


def test_a_killed_child_is_started_again(tmp_path: Path, said: Heard) -> None:
    with Supervisor(f"{tmp_path}#1", said) as it:
        first = it.start(service(tmp_path, "worker"))
        it.settle()
        os.kill(first.pid, signal.SIGKILL)
        fresh: list[int] = []

        def again() -> bool:
            it.tend()
            fresh[:] = [
                pid for pid in tagged(f"{tmp_path}#1") if "600" in " ".join(psutil.Process(pid).cmdline())
            ]
            return bool(fresh) and first.pid not in fresh

        eventually(again)
        assert said == ["worker ended with status -9; starting it again"]
    assert gone(tmp_path)


def test_one_that_keeps_dying_before_all_was_ready_ends_the_start_with_its_last_words(
    tmp_path: Path, said: Heard
) -> None:
    def start() -> None:
        with Supervisor(f"{tmp_path}#1", said) as it:
            it.start(service(tmp_path, "healthy"))
            it.start(service(tmp_path, "api", "print('no such module'); raise SystemExit(3)"))
            it.run()

    with pytest.raises(StackError, match=r"api ended with status 3, again and again: no such module"):
        start()
    assert gone(tmp_path)


def test_one_that_keeps_dying_later_is_tried_again_ever_more_slowly(
    tmp_path: Path, said: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_BACKOFF", 0.01)
    with Supervisor(f"{tmp_path}#1", said) as it:
        it.settle()
        it.start(service(tmp_path, "flower", "print('port taken'); raise SystemExit(1)"))

        def five() -> bool:
            it.tend()
            return len(said) >= 5

        eventually(five)
    assert said[0] == "flower ended with status 1; starting it again"
    assert "flower ended with status 1, again; next try in" in said[4]
    assert "Its last words: port taken" in said[4]


def test_waiting_ends_when_it_is_ready_and_fails_in_words_when_it_never_is(
    tmp_path: Path, said: Heard
) -> None:
    with Supervisor(f"{tmp_path}#1", said) as it:
        answers = iter([False, False, True])
        it.wait_until(lambda: next(answers), 60, "unused")
        with pytest.raises(StackError, match="api: not ready after 0 s"):
            it.wait_until(lambda: False, 0, "api: not ready")


def test_a_signal_ends_everything_in_order(tmp_path: Path, said: Heard) -> None:
    ended: list[str] = []
    with Supervisor(f"{tmp_path}#1", said) as it:
        it.start(service(tmp_path, "database", is_server=True, clean_up=lambda: ended.append("database")))
        it.start(service(tmp_path, "worker", clean_up=lambda: ended.append("worker")))
        os.kill(os.getpid(), signal.SIGTERM)
        it.run()
    assert ended == ["worker", "database"]
    assert gone(tmp_path)


def test_signal_handlers_are_put_back(tmp_path: Path, said: Heard) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Supervisor(f"{tmp_path}#1", said):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_nothing_starts_after_a_signal(tmp_path: Path, said: Heard) -> None:
    with Supervisor(f"{tmp_path}#1", said) as it:
        os.kill(os.getpid(), signal.SIGINT)
        it.start(service(tmp_path, "late"))
        raise AssertionError("unreachable")
    assert gone(tmp_path)


def test_a_stubborn_child_is_killed_when_its_time_is_up(tmp_path: Path, said: Heard) -> None:
    with Supervisor(f"{tmp_path}#1", said) as it:
        child = it.start(service(tmp_path, "stubborn", STUBBORN, stop_seconds=0.2))
        eventually(lambda: child.tail() == "on")
    assert child.returncode == -signal.SIGKILL


def test_a_second_signal_kills_at_once(tmp_path: Path, said: Heard) -> None:
    began = time.monotonic()
    with Supervisor(f"{tmp_path}#1", said) as it:
        child = it.start(service(tmp_path, "stubborn", STUBBORN, stop_seconds=500))
        eventually(lambda: child.tail() == "on")
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        it.run()
    assert child.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 500


def test_a_grandchild_in_a_session_of_its_own_is_ended_too(tmp_path: Path, said: Heard) -> None:
    with Supervisor(f"{tmp_path}#1", said) as it:
        child = it.start(service(tmp_path, "daemon", DAEMON))
        eventually(lambda: child.tail() == "on")
        assert len(tagged(f"{tmp_path}#1")) == 3  # with the sentinel
    assert gone(tmp_path)


def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import pathlib
from cli.stack.supervisor import Supervisor
from tests.cli.stack.test_supervisor import DAEMON, STUBBORN, service
folder = pathlib.Path({str(tmp_path)!r})
with Supervisor(f"{{folder}}#1", print) as it:
    it.settle()
    for name, code in (("stubborn", STUBBORN), ("daemon", DAEMON)):
        it.start(service(folder, name, code))
    it.run()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        eventually(lambda: len(tagged(f"{tmp_path}#")) == 4)  # with the sentinel and the grandchild
        eventually(lambda: (tmp_path / "stubborn.log").read_text() == "on\n")
        process.kill()
    eventually(lambda: gone(tmp_path), 30)


def test_what_a_killed_run_left_is_swept_but_another_folder_is_not_touched(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "a", tmp_path / "ab"
    children = [Child(service(folder, "left")) for folder in (ours, theirs)]
    eventually(lambda: tagged(f"{ours}#") and tagged(f"{theirs}#"))
    assert sweep(f"{ours}#", 0) == 1
    eventually(lambda: children[0].returncode == -signal.SIGKILL)
    assert children[1].returncode is None
    children[1].kill()


def test_a_large_log_is_rotated_under_the_writer(
    tmp_path: Path, said: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_LOG_BYTES", 1000)
    monkeypatch.setattr(supervisor, "ROTATE_EVERY", 0.0)
    writer = "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.005)"
    with Supervisor(f"{tmp_path}#1", said) as it:
        it.settle()
        child = it.start(service(tmp_path, "writer", writer))
        log = child.service.log
        eventually(lambda: log.stat().st_size > 1000)
        it.tend()
        assert (tmp_path / "writer.log.1").stat().st_size > 1000
        eventually(lambda: log.stat().st_size > 0)
        assert b"\0" not in log.read_bytes()  # it appends: no hole where the old text was
