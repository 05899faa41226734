"""What a data directory remembers."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli.stack import StackError
from cli.stack.state import State, write_private


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    secret = State(tmp_path / "state.json").secret("password")
    assert len(secret) == 32
    assert State(tmp_path / "state.json").secret("password") == secret
    assert State(tmp_path / "state.json").secret("another") != secret


def test_changes_are_merged(tmp_path: Path) -> None:
    state = State(tmp_path / "deep" / "state.json")
    state.update(ports={"main": 1}, other="x")
    state.update(ports={"main": 2})
    assert state.read() == {"ports": {"main": 2}, "other": "x"}


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    State(tmp_path / "state.json").secret("password")
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["", "{", "[]", "[1]", "7", "\0\0\0"])
def test_a_damaged_file_is_an_error_and_not_a_fresh_start(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(damage)
    with pytest.raises(StackError, match="is damaged"):
        State(path).secret("password")
    assert path.read_text() == damage


def test_a_file_left_by_a_crash_in_the_middle_of_writing_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".key.new").write_text("half")
    (tmp_path / "key").write_text("old")
    write_private(tmp_path / "key", "new")
    assert (tmp_path / "key").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
