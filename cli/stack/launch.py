"""Becomes one child of the stack: run as a script, it ties itself to its parent, then execs.

A script of its own, with the standard library only, because the same steps in `preexec_fn` may
deadlock in a parent that has threads. Arguments: parent pid, death signal, identity, `--`, command;
identity is `-` (stay), `map` (a user namespace in which root is uid 1000) or a numeric uid.
PostgreSQL refuses to run as root, which is what the last two are for.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
INNER_UID = 1000  # any but 0: it is only seen inside the namespace
REFUSED = 77  # exit status: this host does not allow the identity asked for

libc = ctypes.CDLL(None, use_errno=True)


def _map_root() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{INNER_UID} {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{INNER_UID} {gid} 1", encoding="ascii")


def _become(identity: str) -> None:
    if identity == "map":
        _map_root()
    elif identity != "-":
        uid = int(identity)
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def main(argv: list[str]) -> None:
    """Never returns: execs the command, or exits with 77 when the identity is refused."""
    parent, death_signal, identity, _, *command = argv
    try:
        _become(identity)
    except OSError as refused:
        sys.stderr.write(f"{refused}\n")
        sys.exit(REFUSED)
    # After the identity, because a change of credentials clears the setting.
    libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):  # the parent died before the line above took hold
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - exec without a shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
