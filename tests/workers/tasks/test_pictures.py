"""Pictures of suspicious faces: stored with the step, kept with the report, erased with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest

from core import analyses, db, retention, steps
from core.config import ModelSettings
from core.domain import Reason, Stage
from core.errors import DetectorUnavailable
from core.evidence import KeyPicture, TraceFinding
from core.models import Interval, Step
from core.queue import Queue
from core.retention import orphans
from core.storage import storage
from tests.checkpoints import make_image_checkpoint
from tests.conftest import point_settings
from tests.workers.detectors.stand_ins import checkpoint, wish
from tests.workers.detectors.test_traces import Tracing
from tests.workers.tasks.conftest import SAMPLES, Submit, hold
from tests.workers.tasks.test_pipeline import ended, intervals
from workers.detectors import blend_trace
from workers.process import this_process
from workers.tasks import artifacts
from workers.tasks.audio import score_voice
from workers.tasks.extract import extract_media
from workers.tasks.fuse import judge_evidence
from workers.tasks.video import open_eyes, score_faces

CLIP = SAMPLES / "pkg_face_photo_real_speech.mp4"


def _models(folder: Path, allow: str) -> Iterator[Path]:
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(folder), DEEPDEFEND_ALLOW_TEST_DETECTORS=allow)
    yield folder
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(ModelSettings().dir), DEEPDEFEND_ALLOW_TEST_DETECTORS="0")


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Path]:
    """A machine that holds no weights."""
    yield from _models(tmp_path / "empty", "0")


@pytest.fixture
def accusing(tmp_path: Path) -> Iterator[Path]:
    """A tiny checkpoint that finds every face of the sample suspicious; it means nothing."""
    folder = tmp_path / "models"
    make_image_checkpoint(folder / ModelSettings().video.replace("/", "--"), labels=("Real", "Fake"))
    yield from _models(folder, "1")


@pytest.fixture
def tracing(tmp_path: Path) -> Tracing:
    """A trace detector that reacts to light, in this process."""
    asked = wish(tmp_path / "trace")
    made = Tracing(checkpoint(asked), asked)
    this_process()._trace = made
    return made


def video_step(analysis_id: UUID) -> Step:
    with db.read() as session:
        return next(step for step in steps.of_analysis(session, analysis_id) if step.stage == "video")


def pictures(row: Interval) -> list[KeyPicture]:
    assert row.video is not None
    return [KeyPicture.model_validate(one) for one in row.video["pictures"]]


def scored(submit: Submit) -> UUID:
    """An analysis whose extraction and video step have run."""
    identity = submit(CLIP)
    extract_media(hold(identity, Stage.EXTRACT))
    score_faces(hold(identity, Stage.VIDEO))
    return identity


def judged(identity: UUID) -> UUID:
    score_voice(hold(identity, Stage.AUDIO))
    judge_evidence(hold(identity, Stage.FUSE))
    return identity


@pytest.mark.usefixtures("accusing")
def test_suspicious_faces_are_kept_with_the_report_and_go_with_it(submit: Submit, tracing: Tracing) -> None:
    identity = judged(scored(submit))
    rows = intervals(identity)
    step = video_step(identity)
    for row in rows:
        shown_by(row, ModelSettings().video, "attention_rollout", 0)
        shown_by(row, tracing.identity.id, "occlusion_grid", 1)
        assert row.video is not None
        assert row.video["tracks"] == [{"track": 0, "score": row.video_score, "frames": 5}]
    assert [one["id"] for one in step.detail["detectors"]] == [ModelSettings().video, tracing.identity.id]
    assert step.detail["detector"] == step.detail["detectors"][0]

    shown = [one for row in rows for one in pictures(row)]
    keys = [key for one in shown for key in (one.crop, one.heatmap or "")]
    assert len(set(keys)) == 16
    assert all(key.startswith(step.detail["pictures"]) for key in keys)
    stills = [row.still_key or "" for row in rows]
    late = f"{analyses.folder(identity)}pictures-9-somebody/frame-0.jpg"
    lost = f"{folder_of(step, 1)}0.jpg"  # the same process stored it for another step, which it then lost
    assert folder_of(step, 0) == step.detail["pictures"]
    with db.read() as session:
        assert orphans.unnamed(session, [*keys, *stills, late, lost]) == [late, lost]

    with db.transaction() as session:
        analysis = analyses.load(session, identity)
        analysis.media_until = analysis.created_at
    retention.erase_media_if_due(identity)
    assert list(storage().keys(analyses.folder(identity))) == []
    assert {row.still_key for row in intervals(identity)} == {None}
    with db.read() as session:
        assert set(orphans.unnamed(session, keys)) == set(keys)


def folder_of(step: Step, shard: int) -> str:
    """Where the process that scored this step keeps the pictures of a shard."""
    claim = steps.Claim(
        step_id=step.id,
        analysis_id=step.analysis_id,
        stage=Stage.VIDEO,
        shard=shard,
        attempt=step.attempt,
        owner="worker-a",
        payload={},
    )
    return artifacts.portraits_folder(claim)


def shown_by(row: Interval, detector: str, method: str, number: int) -> None:
    """The picture of that number is this detector's, and its two objects are JPEGs of a crop."""
    one = pictures(row)[number]
    assert (one.detector, one.method, one.track) == (detector, method, 0)
    faces = {face["frame"]: face for face in (row.video or {})["faces"]}
    assert (one.time, list(one.box)) == (faces[one.frame]["time"], faces[one.frame]["box"])
    if method == "attention_rollout":
        assert one.score == max(face["score"] for face in faces.values())
    for key in (one.crop, one.heatmap or ""):
        picture = cv2.imdecode(np.frombuffer(storage().read(key), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape == (256, 256, 3)


@pytest.mark.usefixtures("nowhere")
def test_without_weights_the_trace_detector_speaks_all_the_same(submit: Submit, tracing: Tracing) -> None:
    identity = scored(submit)
    rows = intervals(identity)
    assert {(row.video_score, row.video_reason) for row in rows} == {(None, Reason.NO_DETECTOR_WEIGHTS.value)}
    found = [TraceFinding.model_validate((row.video or {})["trace"]) for row in rows]
    assert all(one.score is not None and one.score > 0.4 for one in found)
    step = video_step(identity)
    assert (step.status, step.reason) == ("skipped", "no_detector_weights")
    assert "deepdefend models pull" in step.detail["mend"]
    assert "detector" not in step.detail
    assert [one["id"] for one in step.detail["detectors"]] == [tracing.identity.id]
    assert {one.method for row in rows for one in pictures(row)} == {"occlusion_grid"}
    report = ended(judged(identity)).report
    assert report is not None
    assert report["overall_scores"]["overall_video_score"] is None


@pytest.mark.usefixtures("nowhere")
def test_damaged_files_of_the_trace_detector_cost_the_trace_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(blend_trace, "WEIGHTS", tmp_path / "nothing")
    point_settings(DEEPDEFEND_MODELS__BLEND_TRACE="on")
    try:
        assert this_process().trace() is None
        with pytest.raises(DetectorUnavailable) as caught:
            open_eyes()
        assert caught.value.code == "no_detector_weights"  # of the detector that scores
    finally:
        point_settings(DEEPDEFEND_MODELS__BLEND_TRACE=ModelSettings().blend_trace)


@pytest.mark.usefixtures("accusing", "tracing")
def test_a_process_says_that_it_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    point_settings(DEEPDEFEND_MODELS__BLEND_TRACE="on")
    try:
        monkeypatch.setattr(this_process(), "queues", [Queue.VIDEO.value])
        said = this_process()._traces()
    finally:
        point_settings(DEEPDEFEND_MODELS__BLEND_TRACE=ModelSettings().blend_trace)
    assert [(one["role"], one["loaded"]) for one in said] == [("trace", True)]
