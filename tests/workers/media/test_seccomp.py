from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from workers.media import landlock, sandbox, seccomp

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def kernel_numbers(machine: str) -> dict[str, int]:
    """System call numbers by the kernel's own header."""
    path = HEADERS[machine]
    if not path.exists():
        pytest.skip(f"no kernel headers here: {path}")
    found = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", path.read_text())
    return {name: int(number) for name, number in found}


@pytest.mark.parametrize("machine", HEADERS)
def test_the_tables_hold_the_kernels_own_numbers(machine: str) -> None:
    known = kernel_numbers(machine)
    column = seccomp.MACHINES[machine][1]
    several = {name: found[0].numbers for name, found in seccomp.rules(1).items()}

    for name, pair in (seccomp.REFUSED | seccomp.ABSENT | several).items():
        assert pair[column] == known.get(name), name


def evaluate(program: bytes, *, machine: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter answers: the few instructions it is made of, by linux/filter.h."""
    data = struct.pack("=iIQ6Q", number, machine, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = list(struct.iter_unpack("=HBBI", program))
    value = place = 0
    while True:
        code, then, otherwise, operand = steps[place]
        place += 1
        if code == 0x06:
            return int(operand)
        if code == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        elif code == 0x54:
            value &= operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand}[code]
            place += then if holds else otherwise


ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # pthread_create
        ("clone", (0x1200011,), EPERM),  # fork
        ("kill", (4711, 9), ALLOW),
        ("kill", (1, 9), EPERM),
        ("kill", (0xFFFFFFFF, 9), EPERM),
        ("tgkill", (4711, 4712, 6), ALLOW),
        ("tgkill", (1, 1, 9), EPERM),
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (1, 7), EPERM),
        ("openat", (0xFFFFFF9C, 0, 0o102), ALLOW),
        ("openat", (0xFFFFFF9C, 0, os.O_TMPFILE | os.O_RDWR), EPERM),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),  # private
        ("mmap", (0, 4096, 3, 0x01), ALLOW),  # a file
        ("mmap", (0, 4096, 3, 0x21), EPERM),
        ("mmap", (0, 4096, 3, 0x23), EPERM),  # MAP_SHARED_VALIDATE
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 8, 1), EPERM),
        ("fcntl", (1, 15, 1), EPERM),
    ],
)
@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_arguments_decide(machine: str, name: str, arguments: tuple[int, ...], answer: int) -> None:
    audit, column = seccomp.MACHINES[machine]
    number = seccomp.rules(1)[name][0].numbers[column]
    assert number is not None
    program = seccomp.program(machine, 4711)

    assert evaluate(program, machine=audit, number=number, arguments=arguments) == answer


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_a_call_of_another_machine_kills(machine: str) -> None:
    """A 32-bit call has other numbers and would slip through the table."""
    for other in (0x40000003, 0x40000028, 0):
        assert evaluate(seccomp.program(machine, 1), machine=other, number=0) == KILL


@pytest.mark.parametrize("number", [442, 452, 467, 0x40000000, 0x40000029, 0xFFFFFFFF - 2**32])
@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_calls_beyond_the_tables_do_not_exist(machine: str, number: int) -> None:
    audit, _ = seccomp.MACHINES[machine]

    answer = evaluate(seccomp.program(machine, 1), machine=audit, number=number)
    assert answer == 0x50000 | errno.ENOSYS


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    audit, column = seccomp.MACHINES[machine]
    ordinary = {
        "read": (0, 63),
        "write": (1, 64),
        "close": (3, 57),
        "futex": (202, 98),
        "exit_group": (231, 94),
    }

    for pair in ordinary.values():
        assert evaluate(seccomp.program(machine, 1), machine=audit, number=pair[column]) == ALLOW


def test_a_machine_without_a_table_is_not_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Name:
        machine = "riscv64"

    monkeypatch.setattr(os, "uname", Name)

    assert seccomp.install() is False


def test_landlock_tells_its_version() -> None:
    assert landlock.version() >= 0


def test_a_kernel_without_landlock_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)

    assert landlock.install(["/usr"], ["/srv"], []) is False


@pytest.mark.parametrize("known", [v for v in (1, 2, 3, 4, 5, 6) if v <= landlock.version()])
def test_older_versions_of_landlock_are_spoken_too(tmp_path: Path, known: int) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text("x")
    code = f"""
from workers.media import landlock
landlock.version = lambda: {known}
print(landlock.install(["/usr", "/nonexistent"], [{str(inside)!r}], []))
open({str(inside / "made")!r}, "w").close()
try:
    open({str(tmp_path / "outside")!r})
except PermissionError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=sandbox.ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == ["True", "refused"], done.stderr
