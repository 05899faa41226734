"""`deepdefend models`: what it prints, what it fetches, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli import models
from core.config import ModelSettings
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.workers.detectors import hub_server
from workers.detectors import store

VIDEO, AUDIO = "dima806/deepfake_vs_real_image_detection", "mo-thecreator/Deepfake-audio-detection"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, and no settings but that one."""
    for name in [name for name in os.environ if name.startswith("DEEPDEFEND_MODELS__")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "models"
    monkeypatch.setenv("DEEPDEFEND_MODELS__DIR", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", NOWHERE)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        VIDEO: make_image_checkpoint(folder / "video", test_only=False),
        AUDIO: make_audio_checkpoint(folder / "audio", test_only=False),
    }


@pytest.fixture
def hub(originals: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    with hub_server.running() as running:
        for hub_id, folder in originals.items():
            running.offer(hub_id, folder)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        yield running


def run(*words: str) -> Any:
    result = CliRunner().invoke(models.app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def fetched(hub: hub_server.Hub) -> list[str]:
    return [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_list_says_what_is_absent_and_how_to_mend_it() -> None:
    result = run("list")
    assert result.exit_code == 1
    for text in (VIDEO, AUDIO, "absent", "deepdefend models pull video", "deepdefend models pull audio"):
        assert text in result.output


def test_list_as_json_is_one_document(root: Path) -> None:
    result = run("list", "--json")
    document = json.loads(result.stdout)
    assert document["dir"] == str(root)
    assert [one["modality"] for one in document["detectors"]] == ["video", "audio"]
    assert {one["code"] for one in document["detectors"]} == {"no_detector_weights"}
    assert result.exit_code == 1


def test_list_is_content_with_dropped_folders_and_names_the_others(root: Path) -> None:
    make_image_checkpoint(root / VIDEO.partition("/")[2], test_only=False)
    make_audio_checkpoint(root / AUDIO.replace("/", "--"), test_only=False)
    make_audio_checkpoint(root / "another", test_only=False)
    result = run("list")
    assert result.exit_code == 0
    assert "available" in result.output
    assert "another" in result.output.splitlines()[-1]


def test_pull_fetches_both_and_says_their_size_first(hub: hub_server.Hub, root: Path) -> None:
    result = run("pull")
    assert result.exit_code == 0, result.output
    assert f"{VIDEO}: 0 MB, commit cccccccccccc" in result.stderr
    for hub_id in hub.repos:
        assert store.verify(root / store.folder_name(hub_id)).startswith("sha256:")
    assert run("list").exit_code == 0
    assert run("verify").exit_code == 0


def test_pull_takes_one_modality(hub: hub_server.Hub, root: Path) -> None:
    assert run("pull", "audio").exit_code == 0
    assert [path.name for path in store.checkpoints(root)] == [store.folder_name(AUDIO)]
    assert not any(VIDEO in path for path in fetched(hub))


def test_pull_as_json_is_one_document(hub: hub_server.Hub) -> None:
    documents = json.loads(run("pull", "--json").stdout)
    assert [one["id"] for one in documents] == [VIDEO, AUDIO]
    assert {one["code"] for one in documents} == {None}
    assert {one["revision"] for one in documents} == set(hub.commits.values())


def test_a_second_pull_says_that_it_is_here_and_does_not_ask_the_hub(hub: hub_server.Hub) -> None:
    run("pull")
    hub.asked.clear()
    result = run("pull")
    assert result.exit_code == 0
    assert result.stderr.count("already here") == 2
    assert hub.asked == []


def test_pull_repairs_at_the_recorded_commit(hub: hub_server.Hub, root: Path) -> None:
    run("pull", "video")
    weights = root / store.folder_name(VIDEO) / store.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    assert run("verify", "video").exit_code == 1
    hub.asked.clear()
    assert run("pull", "video").exit_code == 0
    assert run("verify", "video").exit_code == 0
    assert any(path.endswith(f"/revision/{'c' * 40}") for _, path, _ in hub.asked)


def test_update_moves_to_the_newest_commit_and_plain_pull_does_not(
    hub: hub_server.Hub, root: Path, originals: dict[str, Path]
) -> None:
    run("pull", "video")
    hub.offer(VIDEO, originals[VIDEO], commit="d" * 40)
    run("pull", "video")
    record = store.record_of(root / store.folder_name(VIDEO))
    assert record is not None
    assert record.revision == "c" * 40
    assert run("pull", "video", "--update").exit_code == 0
    record = store.record_of(root / store.folder_name(VIDEO))
    assert record is not None
    assert record.revision == "d" * 40


def test_a_pinned_revision_that_the_hub_does_not_have_is_an_error(
    hub: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPDEFEND_MODELS__VIDEO_REVISION", "e" * 40)
    result = run("pull", "video")
    assert result.exit_code == 1
    assert "no dima806" in result.stderr
    assert fetched(hub) == []


def test_an_unreachable_hub_is_one_clear_line_and_a_failure(root: Path) -> None:
    result = run("pull")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("deepdefend: video: The hub does not answer")
    assert str(root) in line


def test_a_folder_of_ones_own_is_left_alone(hub: hub_server.Hub, root: Path) -> None:
    make_image_checkpoint(root / store.folder_name(VIDEO), test_only=False)
    result = run("pull", "video")
    assert result.exit_code == 0
    assert "a folder of your own is in use" in result.stderr
    assert hub.asked == []


def test_a_test_checkpoint_in_the_place_of_a_real_one_is_pulled_over_and_kept(
    hub: hub_server.Hub, root: Path
) -> None:
    make_image_checkpoint(root / store.folder_name(VIDEO), test_only=True)
    assert run("pull", "video").exit_code == 0
    assert fetched(hub)
    assert len(list(root.glob("*.replaced-*"))) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_setting_that_names_a_folder_needs_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    monkeypatch.setenv("DEEPDEFEND_MODELS__VIDEO", str(tmp_path / "own"))
    if there:
        make_image_checkpoint(tmp_path / "own")
    result = run("pull", "video")
    assert result.exit_code == (0 if there else 1)
    assert ("in use" if there else "not there") in result.stderr


def test_verify_finds_one_changed_byte(hub: hub_server.Hub, root: Path) -> None:
    run("pull")
    assert hub.asked
    with (root / store.folder_name(AUDIO) / store.CONFIG).open("a") as file:
        file.write(" ")
    result = run("verify", "--json")
    video, audio = json.loads(result.stdout)
    assert (video["code"], video["result"]) == (None, "as recorded")
    assert audio["code"] == "wrong_digest"
    assert result.exit_code == 1
    assert "wrong_digest" in run("verify").output


def test_verify_says_what_is_absent_and_what_has_no_record(root: Path) -> None:
    make_image_checkpoint(root / store.folder_name(VIDEO))
    result = run("verify")
    assert result.exit_code == 1
    assert "no record to compare with" in result.output
    assert "absent" in result.output


def test_a_setting_out_of_its_bounds_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_MODELS__DEVICE", "toaster")
    result = run("list")
    assert result.exit_code == 1
    assert "DEEPDEFEND_MODELS__DEVICE" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_it_runs_without_database_broker_or_secret(root: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DEEPDEFEND_")}
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import app; app()", "models", "list", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
        env={
            **environment,
            "DEEPDEFEND_MODELS__DIR": str(root),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["detectors"]) == 2
    assert done.stderr == ""


def missing(root: Path) -> list[str]:
    return models.pull_missing(ModelSettings(dir=root), Console(file=StringIO()), seconds=5)


def test_a_stack_pulls_what_is_missing_when_the_hub_answers(hub: hub_server.Hub, root: Path) -> None:
    assert missing(root) == []
    assert len(list(store.checkpoints(root))) == 2
    hub.asked.clear()
    assert missing(root) == []
    assert hub.asked == []


def test_a_stack_goes_on_without_a_hub_and_says_what_mends_it(root: Path) -> None:
    (line,) = missing(root)
    assert "video and audio" in line
    assert "deepdefend models pull" in line
    assert not root.exists()


def test_a_stack_goes_on_when_one_pull_fails(hub: hub_server.Hub, root: Path) -> None:
    del hub.repos[AUDIO]
    (line,) = missing(root)
    assert line.startswith("No audio weights")
    assert [path.name for path in store.checkpoints(root)] == [store.folder_name(VIDEO)]
