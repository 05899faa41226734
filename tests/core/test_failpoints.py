"""A process dies where it was told to, once, and nowhere else."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from core import failpoints
from core.config import Settings, settings
from core.failpoints import STATUS, Point, parse

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "cli", "core", "workers")
#: Reads the settings as every process does, then passes points as work does.
WALK = """
import sys
from core import failpoints
from core.config import settings
settings()
for name in sys.argv[1:]:
    failpoints.reach(failpoints.Point(name))
    print(name, flush=True)
"""


def walk(failpoint: str, *points: Point, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that passes these points."""
    command = [sys.executable, "-c", WALK, *points]
    variables = {**complete(), "DEEPDEFEND_FAILPOINT": failpoint, **environment}
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)


def complete() -> dict[str, str]:
    return {
        "DEEPDEFEND_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "DEEPDEFEND_BROKER_URL": "redis://127.0.0.1:1/0",
        "DEEPDEFEND_SECRET_KEY": "x" * 32,
    }


def test_a_process_dies_at_the_point_and_says_so() -> None:
    done = walk("extract.stored", Point.WORKER_CLAIMED, Point.EXTRACT_STORED, Point.EXTRACT_CLOSED)
    assert done.returncode == STATUS
    assert done.stdout.split() == ["worker.claimed"]
    said = json.loads(done.stderr)
    assert said["action"] == "failpoint"
    assert said["point"] == "extract.stored"
    assert said["pid"] > 0


def test_it_dies_at_the_n_th_time() -> None:
    point = Point.WORKER_CLAIMED
    done = walk("worker.claimed@3", point, point, Point.FUSE_JUDGED, point, point)
    assert done.returncode == STATUS
    assert done.stdout.split() == ["worker.claimed", "worker.claimed", "fuse.judged"]


@pytest.mark.parametrize("failpoint", ["", "fuse.completed"])
def test_what_is_not_armed_or_not_reached_harms_nobody(failpoint: str) -> None:
    done = walk(failpoint, Point.WORKER_CLAIMED, Point.FUSE_JUDGED)
    assert done.returncode == 0
    assert len(done.stdout.split()) == 2


def test_a_file_kills_once_however_often_the_process_starts(tmp_path: Path) -> None:
    file = tmp_path / "failpoint"
    assert walk(f"file:{file}", Point.FUSE_JUDGED).returncode == 0, "no file, no trap"
    file.write_text("fuse.judged\n")
    assert walk(f"file:{file}", Point.FUSE_CLAIMED).returncode == 0
    assert file.exists(), "another point leaves it"
    assert walk(f"file:{file}", Point.FUSE_JUDGED).returncode == STATUS
    assert not file.exists()
    assert walk(f"file:{file}", Point.FUSE_JUDGED).returncode == 0


def test_only_one_of_many_dies_by_the_same_file(tmp_path: Path) -> None:
    file = tmp_path / "failpoint"
    file.write_text("fuse.judged")
    command = [sys.executable, "-c", WALK, "fuse.judged"]
    variables = {**complete(), "DEEPDEFEND_FAILPOINT": f"file:{file}"}
    started = [
        subprocess.Popen(
            command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(4)
    ]
    assert Counter(process.wait() for process in started) == {STATUS: 1, 0: 3}


@pytest.mark.parametrize(
    "wrong", ["fuse", "Fuse.Judged", "fuse.judged@0", "fuse.judged@x", "fuse.judged@-1", "@2"]
)
def test_an_unknown_name_stops_the_process_at_its_start(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"fail point|how often"):
        parse(wrong)
    done = walk(wrong, Point.FUSE_JUDGED)
    assert done.returncode not in {0, STATUS}
    assert "fuse.judged" not in done.stdout
    assert "failpoint" in done.stderr


@pytest.mark.parametrize("failpoint", ["fuse.judged", "file:/nowhere"])
def test_production_refuses_them(failpoint: str) -> None:
    done = walk(failpoint, Point.FUSE_JUDGED, DEEPDEFEND_ENVIRONMENT="production")
    assert done.returncode not in {0, STATUS}
    assert "not in production" in done.stderr


def test_the_refusal_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_FAILPOINT", "nowhere.at_all")
    with pytest.raises(ValidationError, match=r"no such fail point: 'nowhere\.at_all'"):
        Settings()


def test_settings_arm_and_disarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_FAILPOINT", "fuse.judged@2")
    settings.cache_clear()
    settings()
    failpoints.reach(Point.FUSE_JUDGED)  # the first of two: we are still here
    monkeypatch.delenv("DEEPDEFEND_FAILPOINT")
    settings.cache_clear()
    settings()
    failpoints.reach(Point.FUSE_JUDGED)
    assert failpoints._armed is None


def reached() -> Counter[str]:
    """Names of members in calls of `reach`, over the whole product."""
    calls = (
        node.args[0]
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"failpoints.reach", "reach"}
    )
    return Counter(argument.attr for argument in calls if isinstance(argument, ast.Attribute))


def test_every_point_is_in_the_product_and_every_reach_names_one() -> None:
    assert set(reached()) == {point.name for point in Point}


def test_every_point_says_between_which_two_actions_it_lies() -> None:
    text = (ROOT / "core" / "failpoints.py").read_text().splitlines()
    for point in Point:
        (line,) = [line for line in text if f'{point.name} = "{point.value}"' in line]
        before, _, after = line.partition("#: ")[2].partition(" | ")
        assert before, line
        assert after, line
