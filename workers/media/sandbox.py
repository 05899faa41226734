"""Runs a Python program that will meet hostile bytes, under the strongest sandbox of this host.

Two levels. `bubblewrap`: own user, mount, pid, net, ipc, uts and cgroup namespaces, only the
interpreter, its packages and our code visible (read-only), one private writable folder. `rlimits`:
where namespaces are not allowed; Landlock then hides the files where the kernel has it. At both levels:
an empty environment, no capability, bounded memory, CPU time, file size, descriptors, threads and disk,
and a seccomp filter without sockets and processes. Both end with the parent and with their wall clock.
docs/sandbox.md has the whole table. RLIMIT_NPROC counts per real user on older kernels and per user
namespace from Linux 5.14, so it is set only where it cannot hit the worker's own processes.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import MediaError
from workers.media.attend import Bounds, Outcome, attend

logger = logging.getLogger(__name__)

BUBBLEWRAP: Final = "bubblewrap"
RLIMITS: Final = "rlimits"
#: The folder that holds the packages `core` and `workers`.
ROOT: Final = Path(__file__).resolve().parents[2]
#: Name of the environment variable that tells the program where its input is.
INPUT_VARIABLE: Final = "DEEPDEFEND_INPUT"
#: False: as on a kernel that has no seccomp (for the tests of what then still holds).
FILTER: Final = True
_PACKAGES = ("av", "cv2", "numpy", "yuface", "pydantic")
_PROBE_SECONDS = 30  # a cold disk; a warm one needs half a second
_FILE_MAPPINGS = 4 * 1024**3  # libraries and mapped files count in RLIMIT_AS, not in RLIMIT_DATA


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


def _confine(work: Path, bounds: Bounds, source: Path | None, *, wrapped: bool) -> list[str]:
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
    orders = {
        "limits": limits,
        "parent": None if wrapped else os.getpid(),
        "filter": FILTER,
        "readable": [] if wrapped else [str(path) for path in (*_roots(), *([source] if source else []))],
        # Python looks for our packages in the folder that holds them: names may be seen, nothing read.
        "listable": [] if wrapped else [str(ROOT)],
        "writable": None if wrapped else [str(work.resolve()), "/dev/null"],
    }
    launcher = [sys.executable, "-s", "-P", "-S", "-m", "workers.media.confine"]
    return [*launcher, json.dumps(orders), sys.executable]


def _kernel() -> tuple[int, ...]:
    """Major and minor version of the running kernel."""
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was found by trying it on this host."""

    level: str  #: bubblewrap or rlimits
    files: bool  #: other files are hidden and out of reach
    calls: bool  #: sockets, new processes and signals to others are refused
    why: str  #: what is in the way of bubblewrap; empty when it works


#: Says, from within, what the sandbox lets through; the name of a file that must not be seen comes last.
_TRIAL: Final = """
import os, socket, sys
def refused(deed):
    try:
        deed()
    except OSError:
        return True
    return False
files = refused(lambda: open(sys.argv[1]))
calls = refused(socket.socket) and refused(lambda: os.posix_spawn("/bin/true", ["true"], {}))
print(f"files={files} calls={calls}")
"""


@functools.lru_cache(maxsize=1)
def level() -> str:
    """The sandbox of this host, found by trying it once a process: bubblewrap or rlimits."""
    found, why = _try_bubblewrap()
    if why:
        logger.warning("decoding under rlimits alone: %s", why)
    else:
        logger.info("decoding under bubblewrap")
    return found


def probe(at: str | None = None) -> Probe:
    """The level (or this one), and what it keeps out, by trying to get out; takes a second."""
    found, why = (at, "") if at else _try_bubblewrap()
    with tempfile.TemporaryDirectory(prefix="deepdefend-probe-") as folder:
        outside, work = Path(folder, "outside"), Path(folder, "work")
        outside.touch()
        work.mkdir()
        said = run(["-I", "-c", _TRIAL, str(outside)], work=work, bounds=_probe_bounds(), at=found).output
    return Probe(level=found, files="files=True" in said, calls="calls=True" in said, why=why)


def _try_bubblewrap() -> tuple[str, str]:
    """The level, and why it is not the best one."""
    if shutil.which("bwrap") is None:
        return RLIMITS, "bubblewrap is not installed"
    program = ["-s", "-P", "-c", f"import {', '.join(_PACKAGES)}, workers.media"]
    with tempfile.TemporaryDirectory(prefix="deepdefend-probe-") as folder:
        outcome = run(program, work=Path(folder), bounds=_probe_bounds(), at=BUBBLEWRAP)
    if outcome.status == 0 and not outcome.signal and not outcome.timed_out:
        return BUBBLEWRAP, ""
    return RLIMITS, f"bubblewrap does not work here: {outcome.output[-500:].strip()}"


def _probe_bounds() -> Bounds:
    return Bounds(
        wall_seconds=_PROBE_SECONDS, cpu_seconds=_PROBE_SECONDS, memory_bytes=1024**3, file_bytes=1024**2
    )


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

    The program finds its input under the name in `DEEPDEFEND_INPUT`. Nothing of it outlives this call:
    it can make no process where the host has seccomp, and dies with its namespace under bubblewrap. Only
    where both are missing may a descendant that moved to a session of its own stay behind.
    """
    wrapped = (at or level()) == BUBBLEWRAP
    prefix = _bubblewrap(work, source) if wrapped else []
    found = None if source is None else source.resolve()
    command = [*prefix, *_confine(work, bounds, found, wrapped=wrapped), *program]
    with _input_link(work, None if wrapped else source) as name, _info() as (info, write_end):
        if wrapped:
            command[1:1] = ["--info-fd", str(write_end)]
        process = subprocess.Popen(  # noqa: S603 - the command is ours alone
            command,
            cwd=work,
            env=environment(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(write_end,) if wrapped else (),
        )
        os.close(write_end)
        return attend(process, work, bounds, checkpoint, info=info if wrapped else None)


@contextmanager
def _info() -> Iterator[tuple[int, int]]:
    """A pipe by which bwrap says who is the first process in its namespace; the write end is the caller's."""
    read_end, write_end = os.pipe()
    try:
        yield read_end, write_end
    finally:
        os.close(read_end)


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
