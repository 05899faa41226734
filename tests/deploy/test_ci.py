from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = "SKIPPED [2] tests/workers/test_x.py:9: ../shared is not here\n"
SANDBOX = "SKIPPED [1] tests/workers/test_y.py:4: bubblewrap is not installed\n"


def verdict(log: str, tmp_path: Path, *, status: int = 0, shared: bool = False) -> tuple[int, list[str]]:
    """Exit status and lines of .ci/verdict.py on a log."""
    folder, file = tmp_path / "shared", tmp_path / "log"
    if shared:
        folder.mkdir()
    file.write_text(log)
    options = ["--status", str(status), "--shared", str(folder), str(file)]
    command = [sys.executable, str(ROOT / ".ci" / "verdict.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_clean_run_stands_and_its_closing_line_is_the_last(tmp_path: Path) -> None:
    log = "...\n\x1b[32m===== \x1b[1m812 passed\x1b[0m in 312.20s (0:05:12) =====\x1b[0m\nmake: done\n"
    assert verdict(log, tmp_path) == (0, ["===== 812 passed in 312.20s (0:05:12) ====="])


@pytest.mark.parametrize("closing", ["812 passed in 31.20s", "===== 1 failed, 811 passed in 31.20s ====="])
def test_a_failed_make_fails_whatever_the_tests_say(tmp_path: Path, closing: str) -> None:
    status, lines = verdict(f"{closing}\n", tmp_path, status=2)
    assert status == 1
    assert lines == ["CI: make test ended with 2", closing]


@pytest.mark.parametrize("log", ["", "no tests ran in 0.01s\n", "=== 5 deselected in 0.01s ===\n"])
def test_a_run_without_a_test_fails(tmp_path: Path, log: str) -> None:
    status, lines = verdict(log, tmp_path)
    assert status == 1
    assert "CI: no test ran" in lines


def test_a_skip_that_this_machine_could_have_run_fails(tmp_path: Path) -> None:
    status, lines = verdict(f"{SANDBOX}== 8 passed, 1 skipped in 1.00s ==\n", tmp_path)
    assert status == 1
    assert lines[0] == "CI: skipped: tests/workers/test_y.py:4: bubblewrap is not installed"


def test_absent_media_are_the_only_excuse_and_only_when_absent(tmp_path: Path) -> None:
    log = f"{SHARED}== 8 passed, 2 skipped in 1.00s ==\n"
    assert verdict(log, tmp_path) == (0, ["== 8 passed, 2 skipped in 1.00s =="])
    status, _ = verdict(log, tmp_path, shared=True)
    assert status == 1


def test_skips_without_their_reasons_are_not_believed(tmp_path: Path) -> None:
    status, lines = verdict("== 8 passed, 3 skipped in 1.00s ==\n", tmp_path)
    assert status == 1
    assert "3 tests were skipped" in lines[0]


def test_every_pytest_of_the_run_counts(tmp_path: Path) -> None:
    log = f"{SANDBOX}== 3 passed, 1 skipped in 1.00s ==\n== 2 passed in 1.00s ==\n"
    status, lines = verdict(log, tmp_path)
    assert status == 1
    assert lines[-1] == "== 2 passed in 1.00s =="


def clone(tmp_path: Path, make_test: str) -> Path:
    """A folder with our .ci and a Makefile whose `test` does that."""
    shutil.copytree(ROOT / ".ci", tmp_path / "clone" / ".ci")
    (tmp_path / "clone" / "Makefile").write_text(f"test:\n\t@{make_test}\n")
    programs = tmp_path / "clone" / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    return tmp_path / "clone"


@pytest.mark.parametrize(
    ("make_test", "expected"),
    [
        ("echo '=== 3 passed in 1.00s ==='", 0),
        ("echo '=== 1 failed, 2 passed in 1.00s ==='; exit 1", 1),
        ("echo 'lint failed'; exit 1", 1),
        ("test -z \"$$(cat)\" && test $$CI = true && echo '3 passed in 1.00s'", 0),
    ],
)
def test_the_script_types_make_test_and_ends_as_it_ended(
    tmp_path: Path, make_test: str, expected: int
) -> None:
    folder = clone(tmp_path, make_test)
    programs = tmp_path / "bin"  # a machine that has everything: nothing is installed
    programs.mkdir()
    (programs / "bwrap").symlink_to("/bin/true")
    done = subprocess.run(
        ["/bin/bash", folder / ".ci" / "run"],
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        cwd=tmp_path,
        input="never read",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, done.stdout + done.stderr
    if "passed" in make_test:
        assert done.stdout.splitlines()[-1].strip("= ").endswith("passed in 1.00s")


def bare_machine(tmp_path: Path, uid: int, apt_get: str) -> dict[str, str]:
    """An environment that has little more than coreutils and make, and an apt-get that does `apt_get`."""
    programs = tmp_path / "bare"
    programs.mkdir()
    for name in ("dirname", "mktemp", "rm", "timeout", "tee", "make", "echo", "cat"):
        (programs / name).symlink_to(str(shutil.which(name)))
    fakes = {"id": f"echo {uid}", "sleep": "exit 0", "apt-get": f'echo "$@" >> {tmp_path}/apt\n{apt_get}'}
    for name, body in fakes.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    return {"PATH": str(programs)}


def ci(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["/bin/bash", str(folder / ".ci" / "run")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_what_is_missing_is_installed_and_a_dropped_connection_tried_again(tmp_path: Path) -> None:
    folder = clone(tmp_path, "echo '3 passed in 1.00s'")
    once_failed = f"test -e {tmp_path}/failed || {{ : > {tmp_path}/failed; exit 100; }}"
    done = ci(folder, bare_machine(tmp_path, 0, once_failed))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "apt").read_text().splitlines() == [
        "update -q",
        "update -q",
        "install -q -y --no-install-recommends bubblewrap",
    ]


def test_an_apt_that_never_answers_ends_the_run(tmp_path: Path) -> None:
    done = ci(clone(tmp_path, "echo '3 passed in 1.00s'"), bare_machine(tmp_path, 0, "exit 100"))
    assert done.returncode != 0
    assert "try 3 of 3" in done.stderr
    assert "passed" not in done.stdout


def test_without_root_it_says_what_to_install(tmp_path: Path) -> None:
    done = ci(clone(tmp_path, "echo '3 passed in 1.00s'"), bare_machine(tmp_path, 1000, "exit 0"))
    assert done.returncode == 1
    assert "missing here: bubblewrap" in done.stderr
    assert not (tmp_path / "apt").exists()
