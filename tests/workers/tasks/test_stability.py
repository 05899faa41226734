"""Other deliveries of a file between two fusions, on real Postgres and S3, with a tiny test checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from core import analyses, db, stability, steps
from core.config import ModelSettings
from core.domain import Stage, StepStatus, Variant
from core.errors import DetectorUnavailable, Fenced
from core.storage import storage
from tests.checkpoints import edit_json, make_image_checkpoint
from tests.conftest import point_settings
from tests.core.fusion.samples import VIT, fitted
from tests.core.test_stability import near_its_end
from tests.system.media import FACE_AND_VOICE, VOICE, ffmpeg
from tests.workers.tasks.conftest import Submit, hold, stages_of
from tests.workers.tasks.test_pipeline import ended, intervals
from workers.base import run_step
from workers.detectors.base import FrameDetector
from workers.process import this_process
from workers.tasks import artifacts
from workers.tasks.extract import extract_media
from workers.tasks.fuse import _speakers, judge_evidence
from workers.tasks.stability import _same_eyes, measure_variant
from workers.tasks.video import Eyes, score_faces

SECONDS = 4
FLEET = [("stability", n, "pending", None) for n in range(len(Variant))]


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """A tiny checkpoint under the name of the default; its scores mean nothing and say so."""
    folder = tmp_path / "models"
    made = make_image_checkpoint(folder / ModelSettings().video.replace("/", "--"))
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(folder), DEEPDEFEND_ALLOW_TEST_DETECTORS="1")
    yield made
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(ModelSettings().dir), DEEPDEFEND_ALLOW_TEST_DETECTORS="0")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face without a voice, two intervals long."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    ffmpeg("-i", FACE_AND_VOICE, "-t", str(SECONDS), "-an", "-c", "copy", path)
    return path


def deferred(submit: Submit, clip: Path) -> UUID:
    """An analysis whose first fusion has closed."""
    identity = submit(clip, stability=True)
    extract_media(hold(identity, Stage.EXTRACT))
    score_faces(hold(identity, Stage.VIDEO))
    judge_evidence(hold(identity, Stage.FUSE))
    return identity


def close(identity: UUID, shards: Iterable[int]) -> None:
    """As if these variants had crashed their decoders."""
    for shard in shards:
        claim = hold(identity, Stage.STABILITY, shard).claim
        with db.transaction() as session:
            steps.finish(session, claim, status=StepStatus.FAILED, reason="decoder_crashed")


def test_variants_are_measured_between_two_fusions(submit: Submit, clip: Path, weights: Path) -> None:
    assert weights
    identity = deferred(submit, clip)
    assert ended(identity).status == "processing"
    assert list(storage().keys(artifacts.scratch_prefix(identity)))
    owed = stages_of(identity)
    assert [step for step in owed if step[0] == "stability"] == FLEET
    assert [step for step in owed if step[0] == "fuse"] == [
        ("fuse", 0, "done", None),
        ("fuse", stability.SECOND, "pending", None),
    ]
    measure_variant(hold(identity, Stage.STABILITY, 0))
    close(identity, range(1, len(Variant)))
    judge_evidence(hold(identity, Stage.FUSE, stability.SECOND))
    analysis = ended(identity)
    assert analysis.status == "completed"
    assert list(storage().keys(artifacts.scratch_prefix(identity))) == []
    assert analysis.report is not None
    found = analysis.report["stability"]
    first, *others = found["variants"]
    rows = intervals(identity)
    assert found["intervals"] == [f"{row.start}-{row.end}" for row in rows]
    assert (first["variant"], first["reason"], first["unmeasured"]) == ("crf_23", None, {})
    assert first["scores"]["intervals"] == len(rows)
    assert first["scores"]["mean_change"] != 0
    assert first["verdict"] is not None
    assert found["seconds"] == first["seconds"] > 0
    assert [one["variant"] for one in others] == list(Variant)[1:]
    assert {(one["reason"], one["verdict"], one["flips"]) for one in others} == {
        ("decoder_crashed", None, False)
    }
    assert analysis.report["stability_reason"] is None


def test_a_first_fusion_that_is_late_judges_without_them(submit: Submit, clip: Path, weights: Path) -> None:
    assert weights
    identity = submit(clip, stability=True)
    extract_media(hold(identity, Stage.EXTRACT))
    score_faces(hold(identity, Stage.VIDEO))
    with db.transaction() as session:
        near_its_end(session, analyses.load(session, identity), 100)
    judge_evidence(hold(identity, Stage.FUSE))
    analysis = ended(identity)
    assert analysis.status == "completed"
    assert {stage for stage, *_ in stages_of(identity)} == {"extract", "video", "fuse"}
    assert analysis.report is not None
    assert [one["reason"] for one in analysis.report["stability"]["variants"]] == ["deadline_exceeded"] * 6
    assert (analysis.report["stability"]["flips"], analysis.report["stability"]["intervals"]) == (False, [])


def test_a_variant_that_fails_is_a_reason_and_one_that_is_canceled_writes_nothing(
    submit: Submit, clip: Path, weights: Path, tmp_path: Path
) -> None:
    identity = deferred(submit, clip)
    lost = hold(identity, Stage.STABILITY, 0)
    lost.lose()
    with pytest.raises(Fenced):
        measure_variant(lost)
    config = weights / "config.json"
    as_it_was = config.read_text()
    edit_json(config, deepdefend_note="the same weights under another digest")
    this_process.cache_clear()
    run_step(Stage.STABILITY, str(identity), 1, measure_variant)
    config.write_text(as_it_was)
    this_process.cache_clear()
    junk = tmp_path / "junk"
    junk.write_bytes(b"this is no film" * 100)
    key = ended(identity).file.object_key
    storage().upload_file(junk, key)
    run_step(Stage.STABILITY, str(identity), 2, measure_variant)
    reasons = {
        shard: (status, reason)
        for stage, shard, status, reason in stages_of(identity)
        if stage == "stability"
    }
    assert reasons[0] == ("running", None)
    assert reasons[1] == ("skipped", "detector_changed")
    assert reasons[2] == ("failed", "unsupported_format")
    assert ended(identity).status == "processing"


def test_only_the_same_weights_with_the_same_calibration_speak_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare, now = VIT, fitted(VIT)
    eyes = Eyes(cast("FrameDetector", SimpleNamespace(identity=now)), None, None)
    monkeypatch.setattr("workers.tasks.stability.open_eyes", lambda: eyes)
    assert _same_eyes(_speakers([now])).detector is eyes.detector
    for told in (_speakers([bare]), _speakers([bare, now]), {}):
        with pytest.raises(DetectorUnavailable) as caught:
            _same_eyes(told)
        assert caught.value.code == "detector_changed"


def test_where_there_is_nothing_to_measure_the_first_fusion_is_the_last(
    submit: Submit, weights: Path
) -> None:
    assert weights
    identity = submit(VOICE, stability=True)
    extract_media(hold(identity, Stage.EXTRACT))
    claim = hold(identity, Stage.AUDIO).claim
    with db.transaction() as session:
        steps.finish(session, claim, status=StepStatus.SKIPPED, reason="no_detector_weights")
    judge_evidence(hold(identity, Stage.FUSE))
    analysis = ended(identity)
    assert analysis.status == "completed"
    assert analysis.report is not None
    assert (analysis.report["stability"], analysis.report["stability_reason"]) == (None, "no_video_stream")
    assert [stage for stage, *_ in stages_of(identity)] == ["extract", "audio", "fuse"]
