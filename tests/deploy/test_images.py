"""An image has what its extras bring and nothing else: the same imports must do with that much."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tomllib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Run in a child: every module of a distribution that the image lacks cannot be imported.
CHILD = """
import importlib.abc, json, runpy, sys

absent = frozenset(json.loads(sys.argv[1]))

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"not in this image: {name}", name=name)
        return None

sys.meta_path.insert(0, Refuse())
exec(sys.argv[2])
"""


def installed(*extras: str) -> set[str]:
    """Canonical names of every distribution that `pip install .[extras]` brings."""
    chosen = [PROJECT["optional-dependencies"][extra] for extra in extras]
    todo = [Requirement(line) for line in itertools.chain(PROJECT["dependencies"], *chosen)]
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        for extra in {"", *wanted.extras}:
            key = (canonicalize_name(wanted.name), extra)
            if key not in seen:
                seen.add(key)
                todo += required(wanted.name, extra)
    return {name for name, _ in seen}


def required(name: str, extra: str) -> list[Requirement]:
    """What a distribution with that extra asks for here; nothing when it is of another platform."""
    try:
        asked = [Requirement(line) for line in distribution(name).requires or []]
    except PackageNotFoundError:
        return []
    return [one for one in asked if not one.marker or one.marker.evaluate({"extra": extra})]


@lru_cache
def absent(*extras: str) -> list[str]:
    """Top-level modules that are installed here and not in an image with these extras."""
    there = installed(*extras)
    ours = {"deepdefend"}
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & (there | ours)
        and module not in {"setuptools", "pkg_resources", "_distutils_hack", "pip"}
    )


def run(code: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as an image with these extras would, without any setting of ours."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(absent(*extras)), code],
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_api_image_has_neither_torch_nor_celery() -> None:
    names = installed("api", "cli")
    assert {"fastapi", "uvicorn", "sqlalchemy", "boto3", "typer"} <= names
    assert not names & {"torch", "celery", "kombu", "redis", "av", "opencv-python-headless", "transformers"}


def test_the_worker_image_has_what_its_queues_need() -> None:
    assert {"torch", "celery", "av", "redis", "flower"} <= installed("worker", "cli", "flower")
    assert "fastapi" not in installed("worker", "cli", "flower")


def test_a_missing_distribution_is_noticed() -> None:
    done = run("import torch", "api", "cli")
    assert done.returncode != 0
    assert "not in this image: torch" in done.stderr


@pytest.mark.parametrize(
    "module", ["api.app", "cli.main", "cli.processes", "cli.keys", "core.db", "core.storage", "core.keys"]
)
def test_the_api_image_can_import_what_it_runs(module: str) -> None:
    done = run(f"import {module}", "api", "cli")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    ["cli.main", "cli.processes", "cli.models", "core.storage", "deploy.alive"],
)
def test_the_worker_image_can_import_what_it_runs(module: str) -> None:
    done = run(f"import {module}", "worker", "cli", "flower")
    assert done.returncode == 0, done.stderr


def test_the_api_loads_neither_torch_nor_celery() -> None:
    code = "import api.app, sys; assert 'torch' not in sys.modules and 'celery' not in sys.modules"
    command, bare = [sys.executable, "-c", code], {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
