"""Which detector is found, by which name, and what is said when none can speak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from core.config import ModelSettings
from core.domain import Modality
from core.errors import DetectorUnavailable
from tests.checkpoints import edit_json, make_audio_checkpoint, make_image_checkpoint
from tests.workers.detectors.test_store import record
from workers.detectors import registry, store
from workers.detectors.hf_audio import HuggingFaceAudioDetector
from workers.detectors.hf_image import HuggingFaceImageDetector

HUB_ID = "dima806/deepfake_vs_real_image_detection"
KEYS = {
    "id",
    "modality",
    "state",
    "code",
    "detail",
    "mend",
    "version",
    "digest",
    "fake_label",
    "test_only",
}


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.GROUP)


def test_the_bundled_detectors_are_registered() -> None:
    found = registry.registered()
    assert found["hf-image"].load() is HuggingFaceImageDetector
    assert found["hf-audio"].load() is HuggingFaceAudioDetector


def test_a_checkout_that_is_not_installed_finds_the_bundled_ones(tmp_path: Path) -> None:
    """No metadata of the distribution is visible: only this checkout and what it depends on."""
    root = Path(__file__).parents[3]
    code = (
        "import importlib.metadata as m; real = m.entry_points;"
        "m.entry_points = lambda **k: () if k.get('group') == 'deepdefend.detectors' else real(**k);"
        "from workers.detectors import registry; print(sorted(registry.registered()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert done.stdout.strip() == "['hf-audio', 'hf-image']"


def test_two_detectors_of_one_name_are_refused() -> None:
    with pytest.raises(DetectorUnavailable, match=r"a\.b:C and d\.e:F|d\.e:F") as caught:
        registry.collect([entry("x", "a.b:C"), entry("x", "d.e:F")])
    assert caught.value.code == "duplicate_detector"
    assert caught.value.extra["mend"].startswith("pip uninstall ")


def test_the_same_line_twice_is_one_detector() -> None:
    assert set(registry.collect([entry("x", "a.b:C"), entry("x", "a.b:C")])) == {"x"}


@pytest.mark.parametrize("modality", list(Modality))
def test_without_weights_the_status_says_so_and_how_to_mend_it(tmp_path: Path, modality: Modality) -> None:
    status = registry.status(ModelSettings(dir=tmp_path), modality)
    assert set(status) == KEYS
    assert status["state"] == "absent"
    assert status["code"] == "no_detector_weights"
    assert status["mend"] == f"deepdefend models pull {modality.value}"
    assert json.loads(json.dumps(status)) == status


@pytest.mark.parametrize("modality", list(Modality))
def test_loading_without_weights_raises_the_same(tmp_path: Path, modality: Modality) -> None:
    with pytest.raises(DetectorUnavailable) as caught:
        registry.load(modality, ModelSettings(dir=tmp_path))
    assert caught.value.code == "no_detector_weights"
    assert caught.value.extra["mend"] == f"deepdefend models pull {modality.value}"


def test_a_dropped_folder_is_available_without_a_record(tmp_path: Path) -> None:
    make_image_checkpoint(tmp_path / "deepfake_vs_real_image_detection", test_only=False)
    status = registry.status(ModelSettings(dir=tmp_path), Modality.VIDEO)
    assert set(status) == KEYS
    assert (status["id"], status["state"], status["version"]) == (HUB_ID, "available", "local")
    assert status["digest"] is None
    assert status["fake_label"] == "Fake"


def test_a_recorded_folder_shows_its_commit_and_digest(tmp_path: Path) -> None:
    made = record(make_image_checkpoint(tmp_path / store.folder_name(HUB_ID), test_only=False))
    status = registry.status(ModelSettings(dir=tmp_path), Modality.VIDEO)
    assert (status["version"], status["digest"]) == ("a" * 40, made.digest)
    identity = registry.load(Modality.VIDEO, ModelSettings(dir=tmp_path)).identity
    assert (identity.id, identity.version, identity.digest) == (HUB_ID, "a" * 40, made.digest)


def test_a_wrong_digest_is_refused_on_loading(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / store.folder_name(HUB_ID), test_only=False)
    record(folder)
    weights = bytearray((folder / store.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / store.WEIGHTS).write_bytes(weights)
    with pytest.raises(DetectorUnavailable) as caught:
        registry.load(Modality.VIDEO, ModelSettings(dir=tmp_path))
    assert caught.value.code == "wrong_digest"
    assert caught.value.extra["mend"] == "deepdefend models pull video"


@pytest.mark.parametrize(("name", "code"), [(store.WEIGHTS, "checkpoint_damaged")])
def test_a_truncated_file_shows_in_the_status_already(tmp_path: Path, name: str, code: str) -> None:
    folder = make_image_checkpoint(tmp_path / "x", test_only=False)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    status = registry.status(ModelSettings(video=str(folder)), Modality.VIDEO)
    assert (status["state"], status["code"]) == ("refused", code)


@pytest.mark.parametrize(
    ("pinned", "code"),
    [("a" * 40, None), ("main", None), ("b" * 40, "wrong_revision"), ("v2", "wrong_revision")],
)
def test_a_pin_is_held_against_the_record(tmp_path: Path, pinned: str, code: str | None) -> None:
    record(make_image_checkpoint(tmp_path / store.folder_name(HUB_ID), test_only=False))
    settings = ModelSettings(dir=tmp_path, video_revision=pinned)
    assert registry.status(settings, Modality.VIDEO)["code"] == code


def test_a_pin_is_not_fulfilled_by_a_folder_without_a_record(tmp_path: Path) -> None:
    make_image_checkpoint(tmp_path / store.folder_name(HUB_ID), test_only=False)
    settings = ModelSettings(dir=tmp_path, video_revision="a" * 40)
    assert registry.status(settings, Modality.VIDEO)["code"] == "wrong_revision"


def test_ambiguous_labels_name_the_setting_that_mends_them(tmp_path: Path) -> None:
    folder = make_audio_checkpoint(tmp_path / "x", labels=None, test_only=False)
    status = registry.status(ModelSettings(audio=str(folder)), Modality.AUDIO)
    assert status["code"] == "ambiguous_labels"
    assert status["mend"] == "export DEEPDEFEND_MODELS__AUDIO_FAKE_LABEL=<label>"
    assert "LABEL_0" in status["detail"]


def test_a_test_checkpoint_is_refused_in_the_status_and_marked_when_allowed(tmp_path: Path) -> None:
    settings = ModelSettings(video=str(make_image_checkpoint(tmp_path / "x")))
    assert registry.status(settings, Modality.VIDEO)["code"] == "test_checkpoint_refused"
    allowed = registry.status(settings, Modality.VIDEO, allow_test=True)
    assert (allowed["state"], allowed["test_only"]) == ("available", True)


def test_an_unsupported_preparation_shows_in_the_status(tmp_path: Path) -> None:
    folder = make_audio_checkpoint(tmp_path / "x", test_only=False)
    edit_json(folder / store.PREPROCESSOR, sampling_rate=8000)
    assert (
        registry.status(ModelSettings(audio=str(folder)), Modality.AUDIO)["code"] == "unsupported_checkpoint"
    )


def test_a_report_never_shows_where_this_machine_keeps_its_files(tmp_path: Path) -> None:
    for settings in (
        ModelSettings(video=str(tmp_path / "secret" / "own")),
        ModelSettings(dir=tmp_path / "s"),
    ):
        assert str(tmp_path) not in json.dumps(registry.status(settings, Modality.VIDEO))
    folder = make_image_checkpoint(tmp_path / "secret" / "own", test_only=False)
    settings = ModelSettings(video=str(folder))
    assert registry.status(settings, Modality.VIDEO)["id"] == "own"
    assert registry.load(Modality.VIDEO, settings).identity.id == "own"


def test_a_detector_can_be_named_by_its_key(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", test_only=False)
    status = registry.status(ModelSettings(video=f"hf-image:{folder}"), Modality.VIDEO)
    assert (status["id"], status["state"]) == ("x", "available")


def test_a_detector_of_the_other_modality_is_refused(tmp_path: Path) -> None:
    folder = make_image_checkpoint(tmp_path / "x", test_only=False)
    status = registry.status(ModelSettings(video=f"hf-audio:{folder}"), Modality.VIDEO)
    assert (status["state"], status["code"]) == ("refused", "unknown_detector")


@pytest.mark.parametrize("value", ["no.such.module:X", "workers.detectors.store:nothing", "json:JSONDecoder"])
def test_a_registered_line_that_leads_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(registry, "registered", lambda: {"hf-image": entry("hf-image", value)})
    status = registry.status(ModelSettings(dir=tmp_path), Modality.VIDEO)
    assert (status["state"], status["code"]) == ("refused", "unknown_detector")


def test_the_status_needs_no_torch(tmp_path: Path) -> None:
    make_image_checkpoint(tmp_path / "x", test_only=False)
    code = (
        "import sys; from core.config import ModelSettings; from core.domain import Modality;"
        "from workers.detectors import registry;"
        f"print(registry.status(ModelSettings(video={str(tmp_path / 'x')!r}), Modality.VIDEO)['state']);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["available", "False"]
