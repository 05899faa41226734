"""Waits for a confined program: drains what it says, watches what it uses, ends it with all it started."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Enough for the last words of a program; a hostile one may write for ever.
TAIL_BYTES: Final = 64 * 1024
#: How often the caller's checkpoint is called.
TICK_SECONDS: Final = 1.0
#: How often threads and disk are looked at; RLIMIT_FSIZE bounds one file alone.
LOOK_SECONDS: Final = 0.2
_SETUP_SECONDS = 10  # of bwrap, on a machine that is busy; 12 milliseconds are usual
_GONE_SECONDS = 10  # what the kernel may take to clear away a killed namespace; milliseconds are usual
_SIGNALLED = 128  # what a shell, and bwrap, adds to the number of a signal


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the program may use."""

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int  #: of its data segment: heap, stacks, private mappings
    file_bytes: int  #: of any one file it writes
    total_bytes: int = 1024**4  #: of all files in its folder; looked at every LOOK_SECONDS
    total_files: int = 100_000
    open_files: int = 128
    threads: int = 256  #: looked at as well; a namespace of its own has a hard limit besides


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the program ended. `signal` is 0 unless one killed it."""

    status: int
    signal: int
    timed_out: bool
    output: str  #: the end of stdout and stderr together
    overran: bool = False  #: it had more threads or files than its bounds


def attend(
    process: subprocess.Popen[bytes],
    work: Path,
    bounds: Bounds,
    checkpoint: Callable[[], None] | None,
    *,
    info: int | None,
) -> Outcome:
    """Drain the program's output until it ends, overruns its bounds, or the checkpoint raises.

    `process` leads a group of its own, which is killed whole. `info`: where bwrap, if that is what it is,
    says who is the first process within.
    """
    tail = bytearray()
    first = None if info is None else _first_within(info)
    ended = overran = False
    try:
        for look in _ticks(bounds.wall_seconds, checkpoint):
            ended = _drain(process, tail)
            overran = look and _overruns(process.pid, work, bounds)
            if ended or overran:
                break
    finally:
        # Before the leader is reaped: until then its process group cannot be anybody else's.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _wait_for(first)
        if process.stdout is not None:
            process.stdout.close()
    status, number = _decode_status(process.returncode, wrapped=info is not None)
    return Outcome(
        status=status,
        signal=number,
        timed_out=not ended and not overran,
        overran=overran or _overfull(work, bounds),
        output=tail.decode("utf-8", "replace"),
    )


def _first_within(info: int) -> int | None:
    """A handle of the namespace's first process, from bwrap's JSON; None when it gave up, or has ended."""
    said = b""
    while select.select([info], [], [], _SETUP_SECONDS)[0] and (chunk := os.read(info, 4096)):
        said += chunk
        try:
            first = json.loads(said)["child-pid"]
        except ValueError:  # not the whole of it yet
            continue
        with suppress(OSError):  # it has ended, or the kernel is older than 5.3
            return os.pidfd_open(first)
        return None
    return None


def _wait_for(first: int | None) -> None:
    """Until the namespace is empty: its first process ends last, a moment after bwrap itself is killed.

    Whoever removed the folder before that could meet a file made after looking.
    """
    if first is not None:
        select.select([first], [], [], _GONE_SECONDS)
        os.close(first)


def _ticks(wall_seconds: float, checkpoint: Callable[[], None] | None) -> Iterator[bool]:
    """Turns of the waiting loop until the wall clock is used up, calling the checkpoint in between.

    True when it is time to look at what the program has used.
    """
    started = checked = looked = time.monotonic()
    while (now := time.monotonic()) - started < wall_seconds:
        if checkpoint is not None and now - checked >= TICK_SECONDS:
            checked = now
            checkpoint()
        look = now - looked >= LOOK_SECONDS
        if look:
            looked = now
        yield look


def _overruns(pid: int, work: Path, bounds: Bounds) -> bool:
    """Whether the program has more threads, or its folder more in it, than it may."""
    with suppress(OSError):  # it has ended
        if len(os.listdir(f"/proc/{pid}/task")) > bounds.threads:  # noqa: PTH208 - names alone, and fast
            return True
    return _overfull(work, bounds)


def _overfull(work: Path, bounds: Bounds) -> bool:
    """Whether the folder holds too much, too many files, or a folder: the program makes none."""
    used = count = 0
    with os.scandir(work) as entries:
        for entry in entries:
            count += 1
            found = entry.stat(follow_symlinks=False)
            used += found.st_blocks * 512
            if used > bounds.total_bytes or count > bounds.total_files or stat.S_ISDIR(found.st_mode):
                return True
    return False


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
