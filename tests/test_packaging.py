"""The distribution is an application with plain package names: what that leans on, checked."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_the_rooms_come_from_one_place() -> None:
    parents = {Path(str(import_module(room).__file__)).parents[1] for room in ROOMS}
    assert parents == {ROOT}


def test_the_tests_do_not_shadow_the_rooms() -> None:
    assert (ROOT / "tests" / "__init__.py").exists(), "without it `import core` finds tests/core"
    for room in ROOMS:
        assert "tests" not in Path(str(import_module(room).__file__)).parts


def test_no_other_distribution_owns_a_name_of_ours() -> None:
    owners = packages_distributions()
    for room in ROOMS:
        assert set(owners.get(room, [])) <= {"deepdefend"}


def test_the_version_is_that_of_the_project() -> None:
    assert version("deepdefend") == PROJECT["project"]["version"]


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_program_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="deepdefend")
    assert callable(script.load())


def test_every_declared_detector_can_be_loaded() -> None:
    declared = PROJECT["project"]["entry-points"]["deepdefend.detectors"]
    found = {point.name: point for point in entry_points(group="deepdefend.detectors")}
    assert set(found) == set(declared)
    for point in found.values():
        assert isinstance(point.load(), type)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("api.app", {"torch", "celery", "kombu", "workers", "transformers", "av", "cv2"}),
        ("core.analyses", {"torch", "celery", "fastapi", "starlette", "api", "workers"}),
        ("core.report", {"torch", "celery", "fastapi", "starlette", "api", "workers"}),
        ("workers.media.extract", {"celery", "sqlalchemy", "torch", "boto3"}),
        ("workers.detectors.registry", {"celery", "sqlalchemy", "boto3"}),
        ("cli.main", {"torch", "celery", "fastapi", "sqlalchemy"}),
    ],
)
def test_importing_one_room_loads_no_stranger(module: str, forbidden: set[str]) -> None:
    code = f"import {module}, sys; print(*sorted({forbidden!r} & set(sys.modules)))"
    bare = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    shipped = lines[lines.index("dependencies = [") : lines.index("dev = [")]
    named = [line for line in shipped if line.startswith('  "') and "deepdefend[" not in line]
    assert len(named) > 20
    assert [line for line in named if "# " not in line] == []
