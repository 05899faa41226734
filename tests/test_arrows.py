"""The contracts of import-linter hold, and each of them would notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
#: contract -> a line that breaks it, and where it would be written.
BREAKS = {
    "rooms": [
        ("api/__init__.py", "import workers.app"),
        ("workers/__init__.py", "from api import app"),
        ("core/errors.py", "import cli.main"),
    ],
    "core-inside": [
        ("core/domain.py", "from core import config"),
        ("core/steps.py", "from core import analyses"),
        ("core/brand_new.py", "X = 1"),
    ],
    "core-outside": [
        ("core/logging.py", "import torch"),
        ("core/storage/s3.py", "from fastapi import Request"),
    ],
    "api-outside": [("api/__init__.py", "import celery"), ("core/errors.py", "import redis")],
    "workers-inside": [
        ("workers/media/__init__.py", "import workers.tasks.video"),
        ("workers/detectors/__init__.py", "from workers.media import sandbox"),
    ],
    "media-and-detectors": [
        ("workers/media/__init__.py", "import sqlalchemy"),
        ("workers/detectors/__init__.py", "from core import db"),
    ],
}


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run lint-imports on the rooms in a folder."""
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-logo", "--no-cache", *chosen]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the rooms that may be broken."""
    folder = tmp_path_factory.mktemp("rooms")
    for room in CONTRACTS["root_packages"]:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_arrows_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_every_contract_has_a_way_to_break_it() -> None:
    assert {contract["id"] for contract in CONTRACTS["contracts"]} == set(BREAKS)


@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [(contract, file, line) for contract, breaks in BREAKS.items() for file, line in breaks],
)
def test_a_forbidden_import_is_noticed(rooms: Path, contract: str, file: str, line: str) -> None:
    path = rooms / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        done = lint(rooms, contract)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert done.returncode != 0, done.stdout
    assert "BROKEN" in done.stdout or "brand_new" in done.stdout
