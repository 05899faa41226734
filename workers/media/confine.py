"""Launcher inside the sandbox: takes from itself what a decoder does not need, then becomes the program.

It runs with the standard library alone and before any hostile byte is read. A launcher is used
rather than `preexec_fn`, which may deadlock when the parent has threads.
Usage: python -s -P -S -m workers.media.confine '{"limits": {...}, ...}' program arguments...
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys

from workers.media import landlock, seccomp

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION = 0x20080522  # linux/capability.h


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
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def drop_privileges() -> None:
    """Give up every capability for good: with no new privileges, not even root's programs regain one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    libc.capset(header, none)


def main(arguments: list[str]) -> None:
    """Confine this process and replace it by the program.

    Orders: `limits` (RLIMIT_* to number), `parent` (pid to die with, or null), `filter` (whether system
    calls are), `readable`, `listable` and `writable`: the only paths to be seen; all when that is null.
    """
    orders = json.loads(arguments[0])
    if orders["parent"] is not None:
        die_with(orders["parent"])
    for name, value in orders["limits"].items():
        limit(name, value)
    if orders["writable"] is not None:
        landlock.install(orders["readable"], orders["writable"], orders["listable"])
    drop_privileges()
    if orders["filter"]:
        seccomp.install()  # last: it forbids some of the above
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
