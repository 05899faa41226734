"""Who may use a data directory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.stack import StackError, folder
from cli.stack.folder import Folder, default_folder


def test_the_default_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "deepdefend"
    monkeypatch.setenv("XDG_DATA_HOME", "")
    assert default_folder() == Path.home() / ".local/share/deepdefend"


def test_it_is_made_private_with_everything_in_it(tmp_path: Path) -> None:
    place = Folder(tmp_path / "a" / "b")
    with place.open():
        assert stat.S_IMODE(place.path.stat().st_mode) == 0o700
        assert place.logs.is_dir()
        assert place.models.is_dir()
        assert place.temp.is_dir()


def test_temporary_files_of_a_killed_run_are_removed_and_the_rest_is_kept(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    with place.open():
        (place.temp / "left").mkdir()
        (place.models / "mine").mkdir()
        place.running.write_text("{}")
    with place.open():
        assert not list(place.temp.iterdir())
        assert (place.models / "mine").is_dir()
        assert not place.running.exists()


def test_a_folder_of_something_else_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    """`--data-dir ~` must not empty `~/tmp`."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "precious").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StackError, match="holds other things"):
        Folder(tmp_path).open()
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_and_a_fresh_volume_may_be_there_first(tmp_path: Path) -> None:
    for name in ("models", "lost+found"):
        (tmp_path / name).mkdir()
    with Folder(tmp_path).open():
        (tmp_path / "notes.txt").write_text("it is ours now")
    Folder(tmp_path).open().close()


def test_a_second_user_is_told_who_has_it(tmp_path: Path) -> None:
    with Folder(tmp_path).open():
        with pytest.raises(StackError) as error:
            Folder(tmp_path).open()
        assert str(error.value) == f"{tmp_path} is in use by another stack (process {os.getpid()})"
    Folder(tmp_path).open().close()


def test_a_lock_of_a_killed_process_does_not_hold(tmp_path: Path) -> None:
    code = """
import pathlib, sys
from cli.stack.folder import Folder
lock = Folder(pathlib.Path(sys.argv[1])).open()
print("locked", flush=True)
input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StackError, match=f"process {holder.pid}"):
            Folder(tmp_path).open()
        holder.kill()
    Folder(tmp_path).open().close()


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot write to .*/file/data: Not a directory"):
        Folder(tmp_path / "file" / "data").open()


def test_a_directory_that_nobody_can_write_is_one_clear_line() -> None:
    # /proc refuses new entries to everyone, root included.
    with pytest.raises(StackError, match="cannot write to /proc/deepdefend: No such file or directory"):
        Folder(Path("/proc/deepdefend")).open()


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(folder, "MIN_FREE_BYTES", free * 2)
    with pytest.raises(StackError, match=r"the disk of .* has \d+\.\d\d GB free; at least 1 GB is needed"):
        Folder(tmp_path).open()
    monkeypatch.undo()
    Folder(tmp_path).open().close()  # the failed start let go of the lock
