"""A calibration beside its weights: applied to every answer, and to no other weights."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from core.calibration import Calibration, Platt
from core.config import ModelSettings
from core.domain import Modality
from tests.core.test_calibration import made
from tests.workers.detectors.stand_ins import Mean, StandIn, checkpoint, wish
from tests.workers.detectors.test_base import crops, window
from workers.detectors import calibrations, registry


def fitting(folder: Path, **changed: object) -> Calibration:
    """A calibration of the stand-in whose files lie here."""
    return made(weights=StandIn.make(folder).identity.digest, **changed)


def test_every_answer_goes_through_it(tmp_path: Path) -> None:
    calibration = fitting(tmp_path / "x")
    calibrations.write(tmp_path / "x", calibration)
    detector = StandIn.make(tmp_path / "x", batch_size=4)
    raw = (np.arange(9) / 255).tolist()
    np.testing.assert_allclose(detector.scores(crops(9)), calibration.apply(raw), rtol=1e-5)
    assert detector.scores(crops(9)).dtype == np.float32


def test_the_identity_says_so_with_everything_fusion_needs(tmp_path: Path) -> None:
    bare = StandIn.make(tmp_path / "x").identity
    assert (bare.calibrated, bare.calibration) == (False, None)
    calibration = fitting(tmp_path / "x")
    calibrations.write(tmp_path / "x", calibration)
    identity = StandIn.make(tmp_path / "x").identity
    assert identity.calibrated
    assert identity.calibration == calibration.summary
    assert identity.digest == bare.digest


def test_sound_detectors_are_calibrated_as_well(tmp_path: Path) -> None:
    asked = wish(tmp_path / "x", Modality.AUDIO)
    raw = Mean(checkpoint(asked), asked)
    calibration = made(weights=raw.identity.digest)
    calibrations.write(tmp_path / "x", calibration)
    answers = Mean(checkpoint(asked), asked).scores([window(0.25), window(0.75)])
    np.testing.assert_allclose(answers, calibration.apply([0.25, 0.75]), rtol=1e-5)


def test_one_of_other_weights_is_refused_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    StandIn.make(tmp_path / "x")
    calibrations.write(tmp_path / "x", made())
    with caplog.at_level(logging.WARNING):
        detector = StandIn.make(tmp_path / "x")
    assert not detector.identity.calibrated
    np.testing.assert_allclose(detector.scores(crops(9)), np.arange(9) / 255, rtol=1e-6)
    assert "x is not used: it is of the weights sha256:" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"kind": "platt"}'])
def test_a_damaged_one_is_refused_and_logged(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / calibrations.FILE).write_bytes(content)
    assert calibrations.read(tmp_path, "sha256:" + "a" * 64) is None
    assert "cannot be read" in caplog.text


def test_where_there_is_none_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert calibrations.read(tmp_path, "sha256:" + "a" * 64) is None
    assert not caplog.records


def test_writing_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    calibrations.write(tmp_path, made())
    newer = made(curve=Platt(slope=3.0, offset=0.0))
    path = calibrations.write(tmp_path, newer)
    assert calibrations.read(tmp_path, newer.weights) == newer
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o044


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrations.write(tmp_path, made())

    def full(_handle: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no room"):
        calibrations.write(tmp_path, made(curve=Platt(slope=3.0, offset=0.0)))
    assert calibrations.read(tmp_path, made().weights) == made()
    assert len(list(tmp_path.iterdir())) == 1


def test_removing_says_whether_there_was_one(tmp_path: Path) -> None:
    calibrations.write(tmp_path, made())
    assert calibrations.remove(tmp_path)
    assert not calibrations.remove(tmp_path)


def test_whoever_calibrates_gets_the_models_own_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrations.write(tmp_path / "x", fitting(tmp_path / "x"))
    asked = wish(tmp_path / "x")
    monkeypatch.setattr(registry, "_chosen", lambda *_args, **_options: (StandIn, asked))
    monkeypatch.setattr(StandIn, "locate", checkpoint)
    settings = ModelSettings()
    raw = registry.load(Modality.VIDEO, settings, calibrated=False)
    assert not raw.identity.calibrated
    assert registry.load(Modality.VIDEO, settings).identity.calibrated
