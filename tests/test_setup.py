"""scripts/setup on machines of every kind, made of stand-ins: what it runs is written to a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: A Python that tells its version, makes "virtual environments" of copies of itself and logs pip's arguments.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c "*version_info*"!= (3, 11)"*) [ {version} = 3.11 ] ;;
"-c "*version_info*"< (3, 8)"*) exit 0 ;;
"-c import ensurepip"*) [ -e {root}/ensurepip ] ;;
"-c "*print*) echo {version} ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "venv $3" >>{log} ;;
"-m pip") shift 2; echo "pip $*" >>{log} ;;
"--version "*) echo "Python {version}.0" ;;
esac
"""
TOOLS = ("sh", "cat", "cksum", "dirname", "rm", "mkdir", "cp", "id", "touch")


class Machine:
    """A checkout, and a PATH that holds only what the test puts there."""

    def __init__(self, root: Path) -> None:
        self.bin, self.checkout, self.log = root / "bin", root / "checkout", root / "log"
        self.root = root
        (self.checkout / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        for name in ("pyproject.toml", "requirements.lock", "scripts/setup"):
            shutil.copy(ROOT / name, self.checkout / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        (root / "ensurepip").touch()

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str, version: str) -> None:
        self.program(name, PYTHON.format(version=version, log=self.log, root=self.root))

    def user(self, uid: int) -> None:
        (self.bin / "id").unlink()
        self.program("id", f"#!/bin/sh\necho {uid}\n")

    def apt(self) -> None:
        self.program("apt-get", f'#!/bin/sh\necho "apt-get $*" >>{self.log}\ntouch {self.root}/ensurepip\n')

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "sh"), "scripts/setup"],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "SYSTEM": str(self.bin), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def did(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if line != "pip --version"]


INSTALL = "pip install --quiet --disable-pip-version-check -c requirements.lock -e .[dev]"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["python3.11", "python3"])
def test_python_3_11_is_found_under_either_name_and_a_second_run_does_nothing(
    machine: Machine, name: str
) -> None:
    machine.python(name, "3.11")
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    assert machine.did() == ["venv .venv", INSTALL]
    second = machine.setup()
    assert (second.returncode, second.stderr, machine.did()) == (0, "", [])


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "scripts/setup"])
def test_a_change_of_what_is_installed_installs_again(machine: Machine, name: str) -> None:
    machine.python("python3.11", "3.11")
    machine.setup()
    machine.did()
    with (machine.checkout / name).open("a") as file:
        file.write("\n# changed\n")
    assert machine.setup().returncode == 0
    assert machine.did() == [INSTALL]


def test_an_installation_that_failed_is_tried_again(machine: Machine) -> None:
    machine.python("python3.11", "3.11")
    machine.setup()
    machine.did()
    python = machine.checkout / ".venv" / "bin" / "python"
    good = python.read_text()
    python.write_text(good.replace('"-m pip")', '"-m pip") [ "$3" = --version ] || exit 9;'))
    (machine.checkout / "requirements.lock").write_text("x==1\n")
    assert machine.setup().returncode == 9
    python.write_text(good)
    assert machine.setup().returncode == 0
    assert machine.did()[-1] == INSTALL


def test_an_environment_of_another_version_is_made_anew(machine: Machine) -> None:
    machine.python("python3.11", "3.11")
    machine.setup()
    machine.did()
    old = machine.checkout / ".venv" / "bin" / "python"
    old.write_text(old.read_text().replace("[ 3.11 = 3.11 ]", "false"))
    assert machine.setup().returncode == 0
    assert machine.did() == ["venv .venv", INSTALL]


def test_a_missing_venv_module_is_installed_by_root(machine: Machine) -> None:
    machine.python("python3.11", "3.11")
    machine.user(0)
    machine.apt()
    (machine.root / "ensurepip").unlink()
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert machine.did() == [
        "apt-get update -qq",
        "apt-get install -y -qq python3.11-venv",
        "venv .venv",
        INSTALL,
    ]
    assert "installing python3.11-venv" in done.stderr


def test_a_missing_venv_module_is_one_line_to_type_for_others(machine: Machine) -> None:
    machine.python("python3.11", "3.11")
    machine.user(1000)
    machine.apt()
    (machine.root / "ensurepip").unlink()
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.endswith(
        "setup: needs python3.11-venv; type: sudo apt-get install -y python3.11-venv\n"
    )
    assert machine.did() == []


def test_another_version_brings_3_11_through_uv(machine: Machine) -> None:
    machine.python("python3", "3.13")
    machine.python("python-from-uv", "3.11")
    machine.program(
        "uv", f'#!/bin/sh\necho "uv $*" >>{machine.log}\n[ "$2" = find ] && echo python-from-uv || :\n'
    )
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert machine.did() == ["uv python install 3.11", "uv python find 3.11", "venv .venv", INSTALL]
    assert "bringing one with uv" in done.stderr


def test_uv_that_cannot_reach_anything_is_one_clear_line(machine: Machine) -> None:
    machine.python("python3", "3.13")
    machine.program("uv", "#!/bin/sh\nexit 2\n")
    done = machine.setup()
    assert done.returncode == 1
    assert done.stderr.endswith("install python3.11 and try again\n")
    assert machine.did() == []


def test_the_lock_names_versions_only() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) > 100
    for pin in pins:
        name, _, version = pin.partition("==")
        assert name
        assert version
        assert not set(version) & set("+@/ ;"), pin
    assert any(pin.startswith("torch==") for pin in pins)


def test_the_bill_of_materials_names_every_pin(tmp_path: Path) -> None:
    bill = tmp_path / "sbom.cdx.json"
    environment = {**os.environ, "VENV": str(Path(sys.executable).parents[1])}
    subprocess.run([ROOT / "scripts" / "sbom", bill], check=True, env=environment, capture_output=True)
    components = json.loads(bill.read_text())["components"]
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    assert sorted(f"{part['name']}=={part['version']}" for part in components) == sorted(pins)
    assert all(part["purl"].startswith("pkg:pypi/") for part in components)


def test_every_target_of_make_is_listed_by_help() -> None:
    shown = subprocess.run(
        ["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = "setup demo up test lint types imports format bench chaos fuzz lock sbom audit clean help"
    assert all(f"make {verb} " in shown for verb in verbs.split())
