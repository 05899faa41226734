from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.errors import MediaError
from workers.media import attend, landlock, sandbox
from workers.media.attend import Bounds, Outcome
from workers.media.sandbox import BUBBLEWRAP, RLIMITS, demand, level, run

LEVELS = [BUBBLEWRAP, RLIMITS]


@pytest.fixture(params=LEVELS)
def at(request: pytest.FixtureRequest) -> str:
    """Every level that this host has."""
    wanted: str = request.param
    if wanted == BUBBLEWRAP and level() != BUBBLEWRAP:
        pytest.skip("this host has no working bubblewrap")
    return wanted


@pytest.fixture
def bubblewrap() -> str:
    if level() != BUBBLEWRAP:
        pytest.skip("this host has no working bubblewrap")
    return BUBBLEWRAP


@pytest.fixture
def no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host without bwrap: nothing is on its path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    level.cache_clear()
    yield
    level.cache_clear()


@pytest.fixture
def no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without seccomp: the other walls must stand alone."""
    monkeypatch.setattr(sandbox, "FILTER", False)


def attempt(code: str, work: Path, at: str, **bounds: Any) -> Outcome:
    """Run a few lines of Python in the sandbox."""
    generous: dict[str, Any] = {
        "wall_seconds": 20, "cpu_seconds": 20, "memory_bytes": 512 << 20, "file_bytes": 1 << 20,
    }  # fmt: skip
    limits = Bounds(**(generous | bounds))
    return run(["-I", "-c", textwrap.dedent(code)], work=work, bounds=limits, at=at)


def test_a_program_runs_in_its_folder_and_says_how_it_ended(tmp_path: Path, at: str) -> None:
    outcome = attempt("open('made', 'w').write('x'); print('said'); raise SystemExit(7)", tmp_path, at)

    assert outcome == Outcome(status=7, signal=0, timed_out=False, output="said\n")
    assert (tmp_path / "made").read_text() == "x"


def test_a_crash_is_reported_by_its_signal(tmp_path: Path, at: str) -> None:
    outcome = attempt("import os; os.kill(os.getpid(), 11)", tmp_path, at)

    assert (outcome.signal, outcome.timed_out) == (signal.SIGSEGV, False)


def test_memory_is_bounded(tmp_path: Path, at: str) -> None:
    assert "MemoryError" in attempt("bytearray(1 << 30)", tmp_path, at).output


def test_time_is_bounded(tmp_path: Path, at: str) -> None:
    outcome = attempt("while True: pass", tmp_path, at, wall_seconds=0.5)

    assert outcome.timed_out
    assert outcome.signal == signal.SIGKILL


def test_processor_time_is_bounded(tmp_path: Path, at: str) -> None:
    outcome = attempt("while True: pass", tmp_path, at, cpu_seconds=1)

    assert (outcome.signal, outcome.timed_out) == (signal.SIGXCPU, False)


def test_files_are_bounded(tmp_path: Path, at: str) -> None:
    outcome = attempt("open('big', 'wb').write(bytes(2 << 20))", tmp_path, at)

    assert outcome.status == 1
    assert (tmp_path / "big").stat().st_size <= 1 << 20


def test_nothing_of_our_environment_is_there(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPDEFEND_SECRET_KEY", "open sesame")

    outcome = attempt("import os; print(sorted(os.environ))", tmp_path, at)

    assert "SECRET" not in outcome.output
    assert "DEEPDEFEND_INPUT" in outcome.output


def test_endless_output_is_not_kept(tmp_path: Path, at: str) -> None:
    outcome = attempt("for n in range(300): print('a' * 10_000)\nprint('end')", tmp_path, at)

    assert len(outcome.output) <= attend.TAIL_BYTES
    assert outcome.output.endswith("end\n")


def test_closing_its_output_does_not_free_it_from_the_clock(tmp_path: Path, at: str) -> None:
    code = "import os, time\nos.close(1); os.close(2); time.sleep(60)"

    assert attempt(code, tmp_path, at, wall_seconds=0.5).timed_out


def test_the_input_has_a_name_of_our_making(tmp_path: Path, at: str) -> None:
    source = tmp_path / "http:%d.m3u8"
    source.write_text("content")
    work = tmp_path / "work"
    work.mkdir()
    code = "import os; name = os.environ['DEEPDEFEND_INPUT']; print(name, open(name).read())"

    bounds = Bounds(wall_seconds=20, cpu_seconds=20, memory_bytes=512 << 20, file_bytes=1 << 20)
    outcome = run(["-I", "-c", code], work=work, bounds=bounds, at=at, source=source)

    assert outcome.output in {"/input content\n", "input content\n"}
    assert list(work.iterdir()) == []


def test_what_the_checkpoint_raises_ends_the_program(tmp_path: Path, at: str) -> None:
    class Canceled(Exception):
        pass

    def checkpoint() -> None:
        raise Canceled

    bounds = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=512 << 20, file_bytes=1 << 20)
    marker = f"import time; time.sleep(3600)  # {tmp_path}"
    with pytest.raises(Canceled):
        run(["-I", "-c", marker], work=tmp_path, bounds=bounds, at=at, checkpoint=checkpoint)

    assert alive(marker) == []


def alive(marker: str) -> list[psutil.Process]:
    """Processes whose command line has the marker as one whole argument."""
    found = psutil.process_iter(["cmdline", "status"])
    return [
        p for p in found if marker in (p.info["cmdline"] or []) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.usefixtures("no_filter")
def test_descendants_end_with_the_program(tmp_path: Path, at: str) -> None:
    marker = f"import time; time.sleep(3600)  # {tmp_path}"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-I', '-c', {marker!r}])"

    assert attempt(code, tmp_path, at, wall_seconds=3).status == 0
    wait_until(lambda: alive(marker) == [])


def wait_until(holds: object) -> None:
    """Wait for something that happens in another process."""
    assert callable(holds)
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in 20 s"
        time.sleep(0.02)


def test_the_program_dies_with_a_killed_parent(tmp_path: Path, at: str) -> None:
    marker = f"import time; time.sleep(3600)  # {tmp_path}"
    parent = textwrap.dedent(f"""
        from pathlib import Path
        from workers.media.attend import Bounds
        from workers.media.sandbox import run
        bounds = Bounds(wall_seconds=600, cpu_seconds=60, memory_bytes=1 << 29, file_bytes=1 << 20)
        run(["-I", "-c", {marker!r}], work=Path({str(tmp_path)!r}), bounds=bounds, at={at!r})
    """)
    environment = {**os.environ, "PYTHONPATH": str(sandbox.ROOT)}
    with subprocess.Popen([sys.executable, "-c", parent], env=environment) as process:
        wait_until(lambda: alive(marker) != [])
        process.kill()
    wait_until(lambda: alive(marker) == [])


@pytest.mark.usefixtures("no_filter")
def test_there_is_no_network_even_without_the_filter(tmp_path: Path, at: str) -> None:
    if at == RLIMITS and landlock.version() < 4:
        pytest.skip("this host's Landlock knows no network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = attempt(f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)", tmp_path, at)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert "refused" in said.output or "denied" in said.output or "unreachable" in said.output


@pytest.mark.usefixtures("no_filter")
def test_the_parent_is_out_of_reach_even_without_the_filter(tmp_path: Path, at: str) -> None:
    if at == RLIMITS and landlock.version() < 6:
        pytest.skip("this host's Landlock knows no signals")

    assert attempt(f"import os; os.kill({os.getpid()}, 9)", tmp_path, at).status == 1


def test_when_it_returns_the_namespace_is_empty(tmp_path: Path, bubblewrap: str) -> None:
    """Twenty times, for the first process within dies a moment after bwrap."""
    for n in range(20):
        marker = f"import time; time.sleep(3600)  # {tmp_path} {n}"
        bounds = Bounds(wall_seconds=0.3, cpu_seconds=9, memory_bytes=512 << 20, file_bytes=1 << 20)
        assert run(["-I", "-c", marker], work=tmp_path, bounds=bounds, at=bubblewrap).timed_out
        assert alive(marker) == []


def test_bubblewrap_shows_no_file_of_ours_and_lets_none_be_written(tmp_path: Path, bubblewrap: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    work = tmp_path / "work"
    work.mkdir()
    own = sandbox.ROOT / "core" / "domain.py"
    code = f"""
        import os
        for name in ({str(secret)!r}, "/etc/passwd", {str(sandbox.ROOT / ".env")!r}):
            print(os.path.exists(name))
        for name in ({str(own)!r}, "/outside", "/usr/outside"):
            try:
                open(name, "a")
            except OSError:
                print("refused")
    """

    outcome = attempt(code, work, bubblewrap)

    assert outcome.output.split() == ["False"] * 3 + ["refused"] * 3


def test_bubblewrap_leaves_no_capability_and_no_other_process(tmp_path: Path, bubblewrap: str) -> None:
    code = """
        import os, socket
        print(os.getpid() < 10, os.getppid() < 10)
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        except PermissionError:
            print("no raw socket")
    """

    assert attempt(code, tmp_path, bubblewrap).output.splitlines() == ["True True", "no raw socket"]


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_the_level_is_rlimits_and_said(caplog: pytest.LogCaptureFixture) -> None:
    assert level() == RLIMITS
    assert "rlimits alone" in caplog.text


@pytest.mark.usefixtures("no_bubblewrap")
def test_a_sandbox_that_is_required_and_missing_is_an_error() -> None:
    with pytest.raises(MediaError) as caught:
        demand(require=True)

    assert caught.value.code == "sandbox_required"
    assert demand(require=False) == RLIMITS


def test_a_bubblewrap_that_does_not_work_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create a new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    level.cache_clear()
    try:
        assert level() == RLIMITS
        assert "No permissions" in caplog.text
    finally:
        level.cache_clear()


def test_a_probe_says_what_is_kept_out() -> None:
    found = sandbox.probe()

    assert found.level == level()
    assert (found.why == "") == (found.level == BUBBLEWRAP)
    assert found.files is (found.level == BUBBLEWRAP or landlock.version() > 0)


@pytest.mark.usefixtures("no_bubblewrap", "no_filter")
def test_a_probe_admits_what_is_not() -> None:
    found = sandbox.probe()

    assert (found.level, found.calls) == (RLIMITS, False)
    assert found.why == "bubblewrap is not installed"


def test_a_kernel_without_process_handles_still_runs_it(
    tmp_path: Path, bubblewrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)

    assert attempt("print('ran')", tmp_path, bubblewrap).output == "ran\n"
