"""Weights are shared between stacks, and their absence is said, not fatal."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stack.environment import of_folder
from cli.stack.folder import Folder
from cli.stack.weights import link_shared, provide, shared_folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("DEEPDEFEND_MODELS__DIR", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    return folder


def checkpoint(folder: Path, name: str, text: str = "{}") -> Path:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(text)
    return folder / name


def test_what_was_pulled_is_visible_in_every_stack(shared: Path, models: Path) -> None:
    checkpoint(shared, "org--pulled")
    checkpoint(shared, ".pull-half")
    (shared / ".pull.lock").write_text("")
    for _ in range(2):
        link_shared(models, shared_folder())
        assert [path.name for path in models.iterdir()] == ["org--pulled"]
    assert (models / "org--pulled" / "config.json").read_text() == "{}"


def test_a_person_s_own_copy_comes_first(shared: Path, models: Path) -> None:
    checkpoint(shared, "org--pulled", "theirs")
    checkpoint(models, "org--pulled", "mine")
    link_shared(models, shared)
    assert (models / "org--pulled" / "config.json").read_text() == "mine"


def test_a_link_follows_a_folder_that_was_removed_and_pulled_again(shared: Path, models: Path) -> None:
    checkpoint(shared, "a")
    link_shared(models, shared)
    (shared / "a").rename(shared / "b")
    link_shared(models, shared)
    assert sorted(path.name for path in models.iterdir()) == ["a", "b"]
    assert not (models / "a").exists()
    checkpoint(shared, "a", "again")
    link_shared(models, shared)
    assert (models / "a" / "config.json").read_text() == "again"


def test_the_shared_folder_may_be_missing_or_be_the_stack_s_own(models: Path, tmp_path: Path) -> None:
    link_shared(models, tmp_path / "missing")
    checkpoint(models, "mine")
    link_shared(models, models)
    assert [path.name for path in models.iterdir()] == ["mine"]


def test_without_weights_and_without_a_hub_it_names_the_command(shared: Path, models: Path) -> None:
    assert shared.is_dir()
    (line,) = provide(models)
    assert "deepdefend models pull" in line
    assert "does not answer" in line


def test_a_stack_looks_into_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPDEFEND_TEMP_DIR", raising=False)
    folder = Folder(tmp_path)
    found = of_folder(folder)
    assert found["DEEPDEFEND_MODELS__DIR"] == str(folder.models)
    assert found["DEEPDEFEND_TEMP_DIR"] == str(folder.temp)
    monkeypatch.setenv("DEEPDEFEND_TEMP_DIR", "/fast")
    assert of_folder(folder) == found | {"DEEPDEFEND_TEMP_DIR": "/fast"}
