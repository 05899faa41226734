"""One process: started, watched, ended with everything below it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.stack import StackError, launch
from cli.stack.child import Child, Service, tail
from cli.stack.ports import LOOPBACK, free_port
from cli.stack.postgres import run_as
from cli.stack.sentinel import TAG, tagged
from tests.cli.stack.patience import eventually


def python(tmp_path: Path, code: str, **more: object) -> Service:
    command = (sys.executable, "-u", "-c", code)
    return Service(name="it", command=command, log=tmp_path / "it.log", tag=str(tmp_path), **more)  # type: ignore[arg-type]


def test_output_and_errors_go_to_the_log(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "import sys; print('out'); print('err', file=sys.stderr)"))
    eventually(lambda: child.returncode == 0)
    child.kill()
    assert child.tail() == "out | err"


def test_a_log_that_is_not_there_or_empty_has_a_tail_all_the_same(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log") == "(no log)"
    (tmp_path / "empty.log").write_text("")
    assert tail(tmp_path / "empty.log") == "(empty log)"


def test_it_waits_for_a_real_answer(tmp_path: Path) -> None:
    port = free_port()

    def probe() -> bool:
        with socket.socket() as link:
            return link.connect_ex((LOOPBACK, port)) == 0

    code = f"import socket,time;time.sleep(.3);s=socket.create_server(('{LOOPBACK}',{port}));time.sleep(60)"
    child = Child(python(tmp_path, code, probe=probe))
    child.wait_ready()
    assert child.returncode is None
    child.stop()
    assert child.returncode == -signal.SIGTERM


def test_a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "print('no disk'); raise SystemExit(3)", probe=lambda: False))
    with pytest.raises(StackError, match="it ended at once: no disk"):
        child.wait_ready()
    child.kill()


def test_a_process_that_never_answers_is_an_error(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "import time; time.sleep(60)", probe=lambda: False, start_seconds=0.2))
    with pytest.raises(StackError, match="it does not answer"):
        child.wait_ready()
    child.kill()


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "import time; time.sleep(60)", probe=lambda: False))

    def give_up() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.wait_ready(give_up)
    child.kill()


def test_one_that_ignores_the_request_is_killed_with_its_own_children(tmp_path: Path) -> None:
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(grandchild.pid, flush=True)
time.sleep(60)
"""
    child = Child(python(tmp_path, code, stop_seconds=0.3))
    eventually(lambda: child.tail().isdigit())
    grandchild = psutil.Process(int(child.tail()))
    child.stop()
    assert child.returncode == -signal.SIGKILL
    eventually(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_cleaning_up_happens_after_the_end(tmp_path: Path) -> None:
    ended: list[bool] = []
    child = Child(
        python(
            tmp_path, "import time; time.sleep(60)", clean_up=lambda: ended.append(not tagged(str(tmp_path)))
        )
    )
    child.stop()
    assert ended == [True]


def test_it_carries_the_tag_and_its_own_environment(tmp_path: Path) -> None:
    child = Child(python(tmp_path, "import os,time; print(os.environ['X']); time.sleep(60)", env={"X": "1"}))
    eventually(lambda: child.tail() == "1")
    assert tagged(str(tmp_path)) == [child.pid]
    assert psutil.Process(child.pid).environ()[TAG] == str(tmp_path)
    child.kill()
    assert tagged(str(tmp_path)) == []


def test_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys, time
from tests.cli.stack.patience import eventually
from tests.cli.stack.test_child import python
from cli.stack.child import Child
child = Child(python(pathlib.Path({str(tmp_path)!r}), "import time; print('on'); time.sleep(60)"))
eventually(lambda: child.tail() == "on")
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    eventually(lambda: not child.is_running())


def test_it_does_not_start_under_a_parent_that_is_dead_already(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    command = [sys.executable, "-I", "-S", launch.__file__, "1", "9", "-", "--", "touch", str(marker)]
    assert subprocess.run(command, check=False).returncode == 1
    assert not marker.exists()


def test_a_refused_identity_is_told_apart() -> None:
    # In a namespace that knows one user, nobody can become another; where namespaces are not
    # allowed, the outer identity is refused in the same way.
    inner = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), "9", "12345", "--", "true"]
    done = run_as("map", inner)
    assert done.returncode == launch.REFUSED
    assert done.stderr
