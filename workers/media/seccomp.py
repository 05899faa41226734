"""A seccomp filter for a decoder: no process, no socket, no signal to others, no file it could hide.

Written by hand because no kept wheel carries libseccomp: two tables and forty lines make the program
that the kernel runs before each system call. It is a list of what is refused, not of what is allowed:
FFmpeg, NumPy and the C library choose their calls by machine and version, and a call missing from an
allow-list would fail an honest file. Threads stay possible, for the decoder needs them.
Layouts: linux/seccomp.h, linux/filter.h, linux/audit.h; numbers: asm/unistd_64.h, asm-generic/unistd.h.
Standard library alone: the launcher imports this before any hostile byte is read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final, NamedTuple

#: (x86_64, aarch64) numbers; None where the machine has no such call.
Numbers = tuple[int | None, int | None]

MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # AUDIT_ARCH_*, column
#: Newer calls than these tables know (442 is mount_setattr) do not exist for the decoder.
FIRST_UNKNOWN: Final = 442
#: Refused with EPERM whatever their arguments.
REFUSED: Final[dict[str, Numbers]] = {
    # Other processes: making them, reading them, bending them.
    "fork": (57, None), "vfork": (58, None), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "unshare": (272, 97), "setns": (308, 268),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # The network; a ring could open sockets past any filter.
    "socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425),
    # Files: it may open, read and write, and nothing else.
    "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None), "mkdirat": (258, 34),
    "mknod": (133, None), "mknodat": (259, 33), "truncate": (76, 45), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "lchown": (94, None),
    "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # Memory that no limit counts.
    "memfd_create": (319, 279), "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "userfaultfd": (323, 282),
    # Parts of the kernel that have nothing to do with decoding.
    "bpf": (321, 280), "perf_event_open": (298, 241), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "personality": (135, 92), "modify_ldt": (154, None), "syslog": (103, 116),
}  # fmt: skip
#: Answered with ENOSYS, so that the C library takes the older call, whose arguments can be looked at.
ABSENT: Final[dict[str, Numbers]] = {"clone3": (435, 435), "openat2": (437, 437)}


class Rule(NamedTuple):
    """A call that is refused when `argument & mask == value` holds, or, with `unless`, when it does not."""

    numbers: Numbers
    argument: int
    mask: int
    value: int
    unless: bool = False


def rules(pid: int) -> dict[str, tuple[Rule, ...]]:
    """Calls that are refused by their arguments; `pid` is the process that the filter is for."""
    thread, tmpfile, shared_anonymous, word = 0x10000, 0x400000, 0x21, 0xFFFFFFFF
    return {
        "clone": (Rule((56, 220), 0, thread, thread, unless=True),),  # threads only
        "kill": (Rule((62, 129), 0, word, pid, unless=True),),
        "tgkill": (Rule((234, 131), 0, word, pid, unless=True),),  # abort() signals itself
        "prlimit64": (Rule((302, 261), 0, word, 0, unless=True),),
        "open": (Rule((2, None), 1, tmpfile, tmpfile),),
        "openat": (Rule((257, 56), 2, tmpfile, tmpfile),),
        "mmap": (Rule((9, 222), 3, shared_anonymous, shared_anonymous),),
        "fcntl": (Rule((72, 25), 1, word, 8), Rule((72, 25), 1, word, 15)),  # F_SETOWN, F_SETOWN_EX
    }


_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06  # linux/bpf_common.h
_KILL, _ALLOW = 0x80000000, 0x7FFF0000  # SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW
_ERRNO = 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes each
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One struct sock_filter; `then` and `otherwise` count the steps to leave out."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def _refuse(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)


def _by_argument(rule: Rule, number: int) -> bytes:
    """Look at one argument, then load the call's number again for the next rule."""
    verdict = (1, 0) if rule.unless else (0, 1)
    return (
        _step(_EQUAL, number, 0, 5)
        + _step(_LOAD, _ARGUMENTS + 8 * rule.argument)  # its low half: both machines are little-endian
        + _step(_AND, rule.mask)
        + _step(_EQUAL, rule.value, *verdict)
        + _refuse(errno.EPERM)
        + _step(_LOAD, _NUMBER)
    )


def program(machine: str, pid: int) -> bytes:
    """The filter for the process `pid` on `machine`. Raises KeyError for a machine without a table."""
    audit, column = MACHINES[machine]
    steps = [
        _step(_LOAD, _MACHINE), _step(_EQUAL, audit, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, FIRST_UNKNOWN, 0, 1), _refuse(errno.ENOSYS),
    ]  # fmt: skip
    for table, error in ((REFUSED, errno.EPERM), (ABSENT, errno.ENOSYS)):
        for numbers in table.values():
            if (number := numbers[column]) is not None:
                steps += [_step(_EQUAL, number, 0, 1), _refuse(error)]
    for several in rules(pid).values():
        for rule in several:
            if (number := rule.numbers[column]) is not None:
                steps.append(_by_argument(rule, number))
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install() -> bool:
    """Put the filter over this process and all it becomes; False where this host cannot."""
    try:
        steps = program(os.uname().machine, os.getpid())
    except KeyError:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    packed = _Program(len(steps) // 8, steps)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(packed), 0, 0) == 0)
