"""Private folders: nobody else's while their owner lives, removed when it was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import settings
from tests.conftest import point_settings
from workers import workspace
from workers.workspace import private_folder, sweep


@pytest.fixture
def temp(tmp_path: Path) -> Iterator[Path]:
    point_settings(DEEPDEFEND_TEMP_DIR=str(tmp_path))
    yield tmp_path
    point_settings(DEEPDEFEND_TEMP_DIR="")
    settings.cache_clear()


def test_a_folder_is_private_and_goes_with_its_contents(temp: Path) -> None:
    with private_folder() as folder:
        assert folder.parent == temp
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "source").write_bytes(b"x")
    assert list(temp.iterdir()) == []


def test_a_folder_in_use_is_left_alone(temp: Path) -> None:
    with private_folder() as folder:
        (folder / "source").write_bytes(b"x")
        sweep()
        assert (folder / "source").exists()
    assert list(temp.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(temp: Path) -> None:
    script = (
        "import sys, time\nfrom workers.workspace import private_folder\n"
        "with private_folder() as folder:\n"
        "    (folder / 'source').write_bytes(b'x' * 1000)\n"
        "    print(folder, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        sweep()
        assert (folder / "source").exists()
        process.kill()
    stranger, link = temp / "deepdefend-tests", temp / f"{workspace.PREFIX}link"
    stranger.mkdir()
    link.symlink_to(stranger)
    sweep()
    assert sorted(temp.iterdir()) == sorted([stranger, link])


def test_a_folder_swept_while_it_is_made_is_made_again(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def swept_at_first(prefix: str, dir: Path) -> str:  # noqa: A002 - the name of the real one
        made.append(mkdtemp(prefix=prefix, dir=dir))
        if len(made) == 1:
            sweep()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_first)
    with private_folder() as folder:
        assert str(folder) == made[1]
        assert list(temp.iterdir()) == [folder]
