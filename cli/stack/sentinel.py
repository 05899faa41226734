"""Outlives a supervisor that was killed, to end what the supervisor can no longer end.

The kernel tells direct children of their parent's death (`cli.stack.launch`), not grandchildren, so
this script waits for the end of its standard input, which the supervisor holds open, gives the
children a moment to end in order, and kills every process of the run that is left: each carries
`DEEPDEFEND_STACK=<data directory>#<run>` in its environment. Standard library only: it costs 10 MB.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

#: Environment variable carried by every process of a stack.
TAG = "DEEPDEFEND_STACK"
GRACE = 5.0  # seconds that PostgreSQL may take for its shutdown checkpoint


def tagged(value: str) -> list[int]:
    """Processes, other than this one, whose tag starts with `value`."""
    wanted = f"\0{TAG}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in b"\0" + (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def sweep(value: str, grace: float) -> int:
    """Wait up to `grace` seconds for those processes to end, then kill them; how many were killed."""
    deadline = time.monotonic() + grace
    killed: set[int] = set()
    while left := tagged(value):
        if time.monotonic() >= deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() >= deadline + GRACE:
                break  # a process that survives SIGKILL is waiting for a disk; nobody can help
            killed.update(left)
        time.sleep(0.1)
    return len(killed)


def main(value: str) -> None:
    """Wait for the supervisor's end, however it comes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(value, GRACE)


if __name__ == "__main__":
    main(sys.argv[1])
