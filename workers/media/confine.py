"""Launcher inside the sandbox: sets limits on itself, then becomes the program.

It runs with the standard library alone and before any hostile byte is read. A launcher is used
rather than `preexec_fn`, which may deadlock when the parent has threads.
Usage: python -I -S confine.py '{"limits": {...}, "parent": pid or null}' program arguments...
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38


def limit(name: str, value: int) -> None:
    """Lower one RLIMIT_*, never above the hard limit that is already there."""
    kind = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    # SIGXCPU comes at the soft limit; a hard limit a little later kills who ignores it.
    grace = 2 if name == "RLIMIT_CPU" else 0
    resource.setrlimit(
        kind, (ceiling, ceiling + grace if hard == resource.RLIM_INFINITY else min(ceiling + grace, hard))
    )


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; exit if it already has."""
    import ctypes  # noqa: PLC0415 - 8 ms that the bubblewrap level does not need

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Confine this process and replace it by the program."""
    orders = json.loads(arguments[0])
    if orders["parent"] is not None:
        die_with(orders["parent"])
    for name, value in orders["limits"].items():
        limit(name, value)
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
