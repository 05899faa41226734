"""Landlock for a decoder: it sees the folders it was given, and no others, without any privilege.

Only for hosts where bubblewrap cannot hide the files by namespaces (a container's default profile
forbids those, Landlock it allows). Layouts and numbers: linux/landlock.h, the same on every machine.
Standard library alone: the launcher imports this before any hostile byte is read.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_PR_SET_NO_NEW_PRIVS = 38
EXECUTE, WRITE, READ, LIST, CREATE, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 8, 1 << 14
#: Rights over the file system that exist since each version of the interface; all are taken away.
_HANDLED: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
#: Rights that may be given for a file; the others speak of folders.
_OF_FILES: Final = EXECUTE | WRITE | READ | TRUNCATE
_TCP: Final = 0b11  # binding and connecting, since version 4
_SCOPES: Final = 0b11  # abstract Unix sockets and signals stay among ourselves, since version 6


def version() -> int:
    """Version of the kernel's interface; 0 where it has none or does not let us."""
    found: int = _libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    return max(found, 0)


def install(readable: Sequence[str], writable: Sequence[str], listable: Sequence[str]) -> bool:
    """Leave this process, and all it becomes, these paths alone; False where this host cannot.

    Each path stands for what is below it too. What does not exist is left out.
    """
    known = version()
    if not known:
        return False
    libc = _libc()
    handled = _HANDLED[max(v for v in _HANDLED if v <= known)]
    order = struct.pack("=QQQ", handled, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)  # noqa: PLR2004
    size = 24 if known >= 6 else 16 if known >= 4 else 8  # noqa: PLR2004 - what that version reads
    rules = libc.syscall(_CREATE, ctypes.c_char_p(order), ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        given = (
            (readable, EXECUTE | READ | LIST),
            (writable, READ | WRITE | LIST | CREATE | TRUNCATE),
            (listable, LIST),
        )
        for paths, rights in given:
            for path in paths:
                _allow(libc, rules, path, rights & handled)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    """Give rights over a path and what is below it."""
    with suppress(FileNotFoundError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= _OF_FILES
            order = struct.pack("=Qi", rights, place)
            libc.syscall(_ADD, rules, _BENEATH, ctypes.c_char_p(order), 0)
        finally:
            os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
