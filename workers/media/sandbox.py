"""Runs a Python program that will meet hostile bytes, under the strongest sandbox of this host.

Two levels. `bubblewrap`: own user, mount, pid, net, ipc, uts and cgroup namespaces, no capability,
empty environment, only the interpreter, its packages and our code visible (read-only), one private
writable folder. `rlimits`: memory, CPU, file size and descriptors are bounded, the environment is
empty, but the file system and the network are not hidden. Both end with the parent and with their
wall clock. RLIMIT_NPROC counts per real user on older kernels and per user namespace from Linux
5.14, so it is set only where it cannot hit the worker's own processes.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import MediaError

logger = logging.getLogger(__name__)

BUBBLEWRAP: Final = "bubblewrap"
RLIMITS: Final = "rlimits"
#: The folder that holds the packages `core` and `workers`.
ROOT: Final = Path(__file__).resolve().parents[2]
#: Enough for the last words of a program; a hostile one may write for ever.
TAIL_BYTES: Final = 64 * 1024
#: How often the caller's checkpoint is called.
TICK_SECONDS: Final = 1.0
#: Name of the environment variable that tells the program where its input is.
INPUT_VARIABLE: Final = "DEEPDEFEND_INPUT"
_PACKAGES = ("av", "cv2", "numpy", "yuface", "pydantic")
_SIGNALLED = 128  # what a shell, and bwrap, adds to the number of a signal
_PROBE_SECONDS = 30  # a cold disk; a warm one needs half a second
_FILE_MAPPINGS = 4 * 1024**3  # libraries and mapped files count in RLIMIT_AS, not in RLIMIT_DATA


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the program may use."""

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int  #: of its data segment: heap, stacks, private mappings
    file_bytes: int  #: of any one file it writes
    open_files: int = 128


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the program ended. `signal` is 0 unless one killed it."""

    status: int
    signal: int
    timed_out: bool
    output: str  #: the end of stdout and stderr together


def _roots() -> Iterator[Path]:
    """Folders that the interpreter, its packages and our code live in."""
    yield from (Path("/usr"), Path("/lib"), Path("/lib64"), Path("/bin"), Path("/etc/ld.so.cache"))
    yield from (Path(sys.base_prefix), Path(sys.prefix), ROOT / "core", ROOT / "workers")
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent.parent


def _bubblewrap(work: Path, source: Path | None) -> list[str]:
    """The bwrap command line up to the program. No /proc: nested containers may not mount one."""
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--cap-drop", "ALL", "--clearenv"]
    for root in dict.fromkeys(_roots()):
        command += ["--ro-bind-try", str(root), str(root)]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind-try", device, device]
    if source is not None:
        command += ["--ro-bind", str(source.resolve()), "/input"]
    # Last, so that nothing writable is left but the private folder.
    command += ["--bind", str(work.resolve()), "/job", "--remount-ro", "/", "--chdir", "/job"]
    for name, value in environment("/input").items():
        command += ["--setenv", name, value]
    return [*command, "--"]


def environment(source: str) -> dict[str, str]:
    """All that the program finds in its environment; nothing of ours leaks into it."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        # yuface's OpenMP threads spin: on two busy cores they made a detection ten times slower.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # each of its threads would claim stack and buffers
        "MALLOC_ARENA_MAX": "2",  # glibc would keep a heap per thread, none of them ever full
        INPUT_VARIABLE: source,
    }


def _confine(bounds: Bounds, *, wrapped: bool) -> list[str]:
    """The launcher and its orders, as a command prefix."""
    limits = {
        "RLIMIT_DATA": bounds.memory_bytes,
        "RLIMIT_AS": bounds.memory_bytes + _FILE_MAPPINGS,
        "RLIMIT_CPU": bounds.cpu_seconds,
        "RLIMIT_FSIZE": bounds.file_bytes,
        "RLIMIT_NOFILE": bounds.open_files,
        "RLIMIT_CORE": 0,
    }
    if wrapped and _kernel() >= (5, 14):
        limits["RLIMIT_NPROC"] = 64
    orders = json.dumps({"limits": limits, "parent": None if wrapped else os.getpid()})
    launcher = str(Path(__file__).with_name("confine.py"))
    return [sys.executable, "-I", "-S", launcher, orders, sys.executable]


def _kernel() -> tuple[int, ...]:
    """Major and minor version of the running kernel."""
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@functools.lru_cache(maxsize=1)
def level() -> str:
    """The sandbox of this host, found by trying it once a process: bubblewrap or rlimits."""
    if shutil.which("bwrap") is None:
        logger.warning("bubblewrap is not installed; decoding under rlimits alone")
        return RLIMITS
    bounds = Bounds(
        wall_seconds=_PROBE_SECONDS, cpu_seconds=_PROBE_SECONDS, memory_bytes=1024**3, file_bytes=1024**2
    )
    program = ["-s", "-P", "-c", f"import {', '.join(_PACKAGES)}, workers.media"]
    with tempfile.TemporaryDirectory(prefix="deepdefend-probe-") as folder:
        outcome = run(program, work=Path(folder), bounds=bounds, at=BUBBLEWRAP)
    if outcome.status == 0 and not outcome.timed_out:
        logger.info("decoding under bubblewrap")
        return BUBBLEWRAP
    logger.warning("bubblewrap does not work here; decoding under rlimits alone: %s", outcome.output[-500:])
    return RLIMITS


def demand(*, require: bool) -> str:
    """The level to run at. Raises MediaError `sandbox_required` rather than go without bubblewrap."""
    found = level()
    if require and found != BUBBLEWRAP:
        raise MediaError("This host has no working sandbox and one is required.", code="sandbox_required")
    return found


def run(
    program: Sequence[str],
    *,
    work: Path,
    bounds: Bounds,
    source: Path | None = None,
    at: str | None = None,
    checkpoint: Callable[[], None] | None = None,
) -> Outcome:
    """Run `python *program` in `work` and wait. What `checkpoint` raises ends the program and passes on.

    The program finds its input under the name in `DEEPDEFEND_INPUT`. Nothing of it outlives this call,
    save, at level rlimits, a descendant that moved to a session of its own.
    """
    wrapped = (at or level()) == BUBBLEWRAP
    prefix = _bubblewrap(work, source) if wrapped else []
    command = [*prefix, *_confine(bounds, wrapped=wrapped), *program]
    with _input_link(work, None if wrapped else source) as name:
        process = subprocess.Popen(  # noqa: S603 - the command is ours alone
            command,
            cwd=work,
            env=environment(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return _attend(process, bounds.wall_seconds, checkpoint, wrapped=wrapped)


@contextmanager
def _input_link(work: Path, source: Path | None) -> Iterator[str]:
    """A name of our own making for the input: the sender's may be a pattern or an address to FFmpeg."""
    link = work / "input"
    if source is None:
        yield "/input"
        return
    link.symlink_to(source.resolve())
    try:
        yield "input"
    finally:
        link.unlink(missing_ok=True)


def _attend(
    process: subprocess.Popen[bytes],
    wall_seconds: float,
    checkpoint: Callable[[], None] | None,
    *,
    wrapped: bool,
) -> Outcome:
    """Drain the program's output until it ends, its time is up or the checkpoint raises."""
    tail = bytearray()
    ended = False
    try:
        for _ in _ticks(wall_seconds, checkpoint):
            ended = _drain(process, tail)
            if ended:
                break
    finally:
        # Before the leader is reaped: until then its process group cannot be anybody else's.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    status, number = _decode_status(process.returncode, wrapped=wrapped)
    return Outcome(status=status, signal=number, timed_out=not ended, output=tail.decode("utf-8", "replace"))


def _ticks(wall_seconds: float, checkpoint: Callable[[], None] | None) -> Iterator[None]:
    """Turns of the waiting loop until the wall clock is used up, calling the checkpoint in between."""
    started = checked = time.monotonic()
    while (now := time.monotonic()) - started < wall_seconds:
        if checkpoint is not None and now - checked >= TICK_SECONDS:
            checked = now
            checkpoint()
        yield


def _drain(process: subprocess.Popen[bytes], tail: bytearray) -> bool:
    """Read what is there, waiting a moment for more; True once the leader has ended."""
    pipe = process.stdout
    if pipe is not None and not pipe.closed:
        if not select.select([pipe], [], [], 0.1)[0]:
            return False
        chunk = os.read(pipe.fileno(), TAIL_BYTES)
        tail += chunk
        del tail[:-TAIL_BYTES]
        if chunk:
            return False
        pipe.close()
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    if not ended:
        time.sleep(0.005)  # between closing its output and ending
    return ended


def _decode_status(returncode: int, *, wrapped: bool) -> tuple[int, int]:
    """Exit status and signal number; bwrap reports a signal of its child as 128 + number."""
    if returncode < 0:
        return 0, -returncode
    if wrapped and _SIGNALLED < returncode <= _SIGNALLED + signal.NSIG:
        return 0, returncode - _SIGNALLED
    return returncode, 0
