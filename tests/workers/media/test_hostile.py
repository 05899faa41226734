"""A decoder taken over by its file: whatever it does, its own step fails and nothing else."""

from __future__ import annotations

import os
import socket
import textwrap
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.config import Limits
from core.domain import Options
from core.errors import MediaError
from tests.workers.media.conftest import SAMPLE
from workers.media import extract as extraction
from workers.media import sandbox
from workers.media.attend import Bounds
from workers.media.extract import extract
from workers.media.sandbox import BUBBLEWRAP, RLIMITS

pytestmark = pytest.mark.skipif(not sandbox.probe().calls, reason="this host has no seccomp filter")

#: What the file makes of its decoder -> the codes that its step may fail with.
TAKEN_OVER: dict[str, tuple[str, set[str]]] = {
    "segfault": ("import ctypes; ctypes.string_at(0)", {"decoder_crashed"}),
    "abort": ("import os; os.abort()", {"decoder_crashed"}),
    "heap": ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"decoder_out_of_memory"}),
    "shared memory": (
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 64 << 20)); x[-1][:] = bytes(64 << 20)",
        {"decoder_crashed", "decoder_out_of_memory"},
    ),
    "spin": ("while True: pass", {"decoder_timeout"}),
    "sleep": ("import time; time.sleep(3600)", {"decoder_timeout"}),
    "spin in threads": (
        """
        import threading
        def spin():
            while True: pass
        for _ in range(8):
            threading.Thread(target=spin).start()
        """,
        {"decoder_timeout"},
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", {"decoder_crashed"}),
    "vfork": ("import subprocess; subprocess.Popen(['/bin/sleep', '3600'])", {"decoder_crashed"}),
    "talk for ever": ("while True: print('a' * 65536, flush=True)", {"decoder_timeout"}),
    "one endless file": (
        "with open('a', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", {"decoder_crashed"},
    ),
    "endless files": (
        "n = 0\nwhile True:\n    n += 1\n    with open(f'{n}', 'wb') as f: f.write(bytes(8 << 20))",
        {"decoder_overran"},
    ),
    "countless files": (
        "n = 0\nwhile True:\n    n += 1\n    open(f'{n}', 'wb').close()", {"decoder_overran"},
    ),
    "thread bomb": (
        """
        import threading, time
        threading.stack_size(65536)
        while True:
            threading.Thread(target=time.sleep, args=(3600,)).start()
        """,
        {"decoder_overran", "decoder_timeout"},  # refused the threads, its first ones sleep on
    ),
    "swallow signals": (
        """
        import signal
        for n in set(range(1, 32)) - {9, 19}:
            signal.signal(n, signal.SIG_IGN)
        while True: pass
        """,
        {"decoder_timeout", "decoder_out_of_memory"},
    ),
    "lie": ("print('{\"code\": \"too_long\", \"detail\": \"x\"}'); raise SystemExit(3)", {"too_long"}),
    "claim success": ("pass", {"decoder_crashed"}),
}  # fmt: skip


@pytest.fixture(params=[BUBBLEWRAP, RLIMITS])
def at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every level that this host has, in force for `extract` too."""
    wanted: str = request.param
    if wanted == BUBBLEWRAP and sandbox.level() != BUBBLEWRAP:
        pytest.skip("this host has no working bubblewrap")
    monkeypatch.setattr(sandbox, "level", lambda: wanted)
    return wanted


def take_over(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """From here on the decoder runs `code` in place of itself."""
    monkeypatch.setattr(extraction, "PROGRAM", ("-I", "-c", textwrap.dedent(code)))


def ran(tmp_path: Path, name: str = "work", **limits: Any) -> str:
    """Extract the sample; the error's code, or `manifest`."""
    work = tmp_path / name
    work.mkdir()
    tight = {
        "decode_seconds": timedelta(seconds=4), "decode_memory_bytes": 256 << 20,
        "max_duration": timedelta(seconds=30),
    }  # fmt: skip
    try:
        extract(SAMPLE, work, options=Options(), limits=Limits(**(tight | limits)), require_sandbox=False)
    except MediaError as error:
        return error.code
    return "manifest"


@pytest.mark.usefixtures("at")
@pytest.mark.parametrize("deed", TAKEN_OVER)
def test_a_decoder_gone_bad_fails_its_step_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    code, codes = TAKEN_OVER[deed]
    before = {process.pid for process in psutil.process_iter()}
    good = extraction.PROGRAM
    take_over(monkeypatch, code)
    patience = timedelta(seconds=4 if "decoder_timeout" in codes else 60)  # a busy disk fills slowly

    assert ran(tmp_path, decode_seconds=patience) in codes

    assert descendants(before) == []
    assert not (tmp_path / "work" / "input").is_symlink()
    monkeypatch.setattr(extraction, "PROGRAM", good)
    generous = {"decode_seconds": timedelta(seconds=60), "decode_memory_bytes": Limits().decode_memory_bytes}
    assert ran(tmp_path, "next", **generous) == "manifest"


def descendants(before: set[int]) -> list[str]:
    """Command lines of new processes, here or adopted by init, in the environment that the sandbox gives."""
    found = []
    for process in psutil.process_iter(["pid", "ppid"]):
        if process.info["ppid"] in {1, os.getpid()} and process.pid not in before:
            with suppress(psutil.Error):  # ended meanwhile
                if sandbox.INPUT_VARIABLE in process.environ():
                    found.append(str(process.cmdline()))
    return found


def tried(tmp_path: Path, code: str, at: str) -> str:
    """What a program says that runs as the decoder does."""
    work = tmp_path / "work"
    work.mkdir()
    bounds = Bounds(wall_seconds=20, cpu_seconds=20, memory_bytes=512 << 20, file_bytes=1 << 20)
    outcome = sandbox.run(["-I", "-c", textwrap.dedent(code)], work=work, bounds=bounds, source=SAMPLE, at=at)
    assert not outcome.timed_out
    return outcome.output


def test_it_can_open_no_socket(tmp_path: Path, at: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        code = f"""
            import socket
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_NETLINK, socket.SOCK_RAW), (socket.AF_PACKET, socket.SOCK_RAW),
            ):
                try:
                    s = socket.socket(family, kind)
                    s.connect(("127.0.0.1", {trap.getsockname()[1]}))
                    print("opened")
                except PermissionError:
                    print("refused")
        """
        said = tried(tmp_path, code, at)

        assert said.split() == ["refused"] * 6
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_it_can_read_nothing_but_code_and_its_input(tmp_path: Path, at: str) -> None:
    if at == RLIMITS and not sandbox.probe().files:
        pytest.skip("this host has no Landlock")
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    code = f"""
        import os
        print(len(open(os.environ["{sandbox.INPUT_VARIABLE}"], "rb").read(64)))
        for name in ({str(secret)!r}, "/etc/passwd", "/proc/self/environ", "/proc/1/environ",
                     {str(sandbox.ROOT / "pyproject.toml")!r}, "../secret"):
            try:
                print(open(name).read())
            except OSError:
                print("refused")
        for name in ("/", "/tmp", "/etc", "..", {str(tmp_path)!r}):
            try:
                print("listed" if {tmp_path.name!r} in str(os.listdir(name)) or name == "/etc" and
                      "passwd" in os.listdir(name) else "refused")
            except OSError:
                print("refused")
    """

    assert tried(tmp_path, code, at).split() == ["64"] + ["refused"] * 11


def test_it_can_touch_nothing_outside_its_folder(tmp_path: Path, at: str) -> None:
    if at == RLIMITS and not sandbox.probe().files:
        pytest.skip("this host has no Landlock")
    canary = tmp_path / "canary"
    canary.write_text("whole")
    canary.chmod(0o666)
    stamp = canary.stat()
    code = f"""
        import os
        canary, folder = {str(canary)!r}, {str(tmp_path)!r}
        deeds = (
            lambda: open(canary, "w"), lambda: open(canary, "a"), lambda: os.truncate(canary, 0),
            lambda: os.unlink(canary), lambda: os.rename(canary, "mine"), lambda: os.link(canary, "mine"),
            lambda: os.chmod(canary, 0), lambda: os.utime(canary, (0, 0)), lambda: os.chown(canary, 1, 1),
            lambda: open(folder + "/new", "w"), lambda: os.mkdir(folder + "/new"),
            lambda: os.symlink("/etc", folder + "/new"), lambda: open("/tmp/deepdefend-new", "w"),
            lambda: os.setxattr(canary, "user.x", b"x"), lambda: os.mkfifo(folder + "/new"),
        )
        for deed in deeds:
            try:
                deed()
                print("done")
            except OSError:
                print("refused")
    """

    assert tried(tmp_path, code, at).split() == ["refused"] * 15
    after = canary.stat()
    assert (canary.read_text(), after.st_mtime_ns, after.st_mode) == (
        "whole",
        stamp.st_mtime_ns,
        stamp.st_mode,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary", "work"]


def test_it_can_neither_kill_nor_bend_its_parent(tmp_path: Path, at: str) -> None:
    nice, limits = os.getpriority(os.PRIO_PROCESS, 0), psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    code = f"""
        import ctypes, fcntl, os, resource, signal
        libc = ctypes.CDLL(None, use_errno=True)
        parent = {os.getpid()}
        deeds = (
            lambda: os.kill(parent, 9), lambda: os.kill(os.getppid(), 9), lambda: os.kill(-1, 9),
            lambda: os.killpg(os.getpgid(0), 9), lambda: os.pidfd_open(parent),
            lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (1, 1)),
            lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
            lambda: os.sched_setaffinity(parent, [0]),
            lambda: fcntl.fcntl(1, fcntl.F_SETOWN, parent),
            lambda: os.setuid(12345) if libc.ptrace(16, parent, 0, 0) == 0 else 1 / 0,
        )
        for deed in deeds:
            try:
                deed()
                print("done")
            except (OSError, ZeroDivisionError):
                print("refused")
    """

    assert tried(tmp_path, code, at).split() == ["refused"] * 10
    assert os.getpriority(os.PRIO_PROCESS, 0) == nice
    assert psutil.Process().rlimit(psutil.RLIMIT_NOFILE) == limits


def test_it_can_leave_no_grandchild_behind(tmp_path: Path, at: str) -> None:
    code = """
        import os, subprocess, sys, threading
        for deed in (os.fork, os.forkpty, lambda: os.posix_spawn("/bin/sleep", ["sleep", "3600"], {}),
                     lambda: subprocess.Popen(["/bin/sleep", "3600"], start_new_session=True)):
            try:
                print("made", deed())
            except OSError:
                print("refused")
        threads = [threading.Thread(target=print, args=("thread",)) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """
    before = {process.pid for process in psutil.process_iter()}

    said = tried(tmp_path, code, at)

    assert said.split() == ["refused"] * 4 + ["thread"] * 2
    assert descendants(before) == []


def test_it_has_no_privilege_even_when_we_are_root(tmp_path: Path, at: str) -> None:
    code = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[1] * 6)
        assert libc.capget(header, data) == 0
        print(list(data), libc.prctl(39, 0, 0, 0, 0))
    """

    assert tried(tmp_path, code, at).strip() == "[0, 0, 0, 0, 0, 0] 1"


def test_unseen_files_are_not_to_be_had(tmp_path: Path, at: str) -> None:
    """Deleted, unnamed and in-memory files would escape the watch over the folder's size."""
    code = """
        import ctypes, mmap, os
        libc = ctypes.CDLL(None, use_errno=True)
        open("a", "w").close()
        def shm():
            if libc.shmget(0, 4096, 0o1600) < 0: raise OSError
        for deed in (lambda: os.unlink("a"), lambda: os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600),
                     lambda: os.memfd_create("x"), lambda: mmap.mmap(-1, 4096), shm, lambda: os.mkdir("d")):
            try:
                deed()
                print("done")
            except OSError:
                print("refused")
    """

    assert tried(tmp_path, code, at).split() == ["refused"] * 6


@pytest.mark.usefixtures("at")
def test_the_folder_is_full_within_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled and done before the first look: the last look still sees it."""
    take_over(monkeypatch, "for n in range(9):\n    with open(f'{n}', 'wb') as f: f.write(bytes(100 << 20))")

    assert ran(tmp_path, decode_seconds=timedelta(seconds=60)) == "decoder_overran"
