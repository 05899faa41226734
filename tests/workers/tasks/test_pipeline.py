"""From a stored file to a report, step by step, with tiny test checkpoints or with none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import av
import numpy as np
import pytest
from sqlalchemy import select

from core import analyses, db
from core.config import ModelSettings
from core.domain import Stage
from core.errors import DetectorUnavailable, Fenced, MediaError, NotFound
from core.evidence import CROP_SIDE
from core.models import Analysis, Interval, Track
from core.storage import storage
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.conftest import point_settings
from tests.core.factories import build_manifest
from tests.workers.tasks.conftest import SAMPLES, Submit, hold, stages_of
from workers.process import this_process
from workers.tasks import artifacts
from workers.tasks.audio import score_voice
from workers.tasks.extract import extract_media
from workers.tasks.fuse import judge_evidence
from workers.tasks.video import score_faces

CLIP = SAMPLES / "pkg_face_photo_real_speech.mp4"
SPEECH = SAMPLES / "pkg_audio_synthetic_kokoro.wav"


@pytest.fixture
def no_weights(tmp_path: Path) -> Iterator[None]:
    """A machine that holds no weights."""
    yield from _models(tmp_path / "empty", allow="0")


@pytest.fixture
def test_weights(tmp_path: Path) -> Iterator[None]:
    """Tiny checkpoints under the names of the defaults; their scores mean nothing and say so."""
    folder = tmp_path / "models"
    defaults = ModelSettings()
    make_image_checkpoint(folder / defaults.video.replace("/", "--"))
    make_audio_checkpoint(folder / defaults.audio.replace("/", "--"))
    yield from _models(folder, allow="1")


def _models(folder: Path, allow: str) -> Iterator[None]:
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(folder), DEEPDEFEND_ALLOW_TEST_DETECTORS=allow)
    yield
    this_process.cache_clear()
    point_settings(DEEPDEFEND_MODELS__DIR=str(ModelSettings().dir), DEEPDEFEND_ALLOW_TEST_DETECTORS="0")


def ended(analysis_id: UUID) -> Analysis:
    with db.read() as session:
        return analyses.load(session, analysis_id)


def intervals(analysis_id: UUID) -> list[Interval]:
    with db.read() as session:
        query = select(Interval).where(Interval.analysis_id == analysis_id).order_by(Interval.index)
        return list(session.scalars(query))


def work_through(analysis_id: UUID) -> None:
    """Every step in turn, as the queues would."""
    extract_media(hold(analysis_id, Stage.EXTRACT))
    for stage, shard, *_ in stages_of(analysis_id):
        match stage:
            case "video":
                score_faces(hold(analysis_id, Stage.VIDEO, shard))
            case "audio":
                score_voice(hold(analysis_id, Stage.AUDIO, shard))
    judge_evidence(hold(analysis_id, Stage.FUSE))


@pytest.mark.usefixtures("test_weights")
def test_a_face_and_a_voice_are_scored_and_reported(submit: Submit) -> None:
    identity = submit(CLIP)
    work_through(identity)
    analysis = ended(identity)
    assert analysis.status == "completed"
    report = analysis.report
    assert report is not None
    assert report["test_only"] is True
    assert [d["test_only"] for d in report["provenance"]["detectors"]] == [True, True]
    assert report["provenance"]["input_sha256"] == analysis.file.sha256
    rows = intervals(identity)
    assert len(rows) == report["total_intervals_analyzed"] == 4
    video = [row.video_score for row in rows if row.video_score is not None]
    audio = [row.audio_score for row in rows if row.audio_score is not None]
    assert len(video) == 4
    assert audio
    scores = report["overall_scores"]
    assert scores["overall_video_score"] == pytest.approx(np.mean(video), abs=1e-3)
    assert scores["overall_audio_score"] == pytest.approx(np.mean(audio), abs=1e-3)
    assert all(len(row.frames) == 5 for row in rows)
    assert {face["track"] for row in rows for frame in row.frames for face in frame["faces"]} == {0}
    # A still photograph under a voice.
    assert report["av"]["signals"] == ["av_mismatch"]
    (bond,) = report["av"]["tracks"]
    assert (bond["track"], bond["null_share"], bond["av_mismatch"]) == (0, 0, True)
    assert bond["correlation"] == report["tracks"][0]["lips"]["correlation"]
    assert bond["correlation"] < report["av"]["correlation_bound"]


@pytest.mark.usefixtures("test_weights")
def test_working_files_go_when_the_report_is_there_and_pictures_stay(submit: Submit) -> None:
    identity = submit(CLIP)
    extract_media(hold(identity, Stage.EXTRACT))
    assert list(storage().keys(artifacts.scratch_prefix(identity)))
    score_faces(hold(identity, Stage.VIDEO))
    score_voice(hold(identity, Stage.AUDIO))
    judge_evidence(hold(identity, Stage.FUSE))
    assert list(storage().keys(artifacts.scratch_prefix(identity))) == []
    with db.read() as session:
        track = session.scalars(select(Track).where(Track.analysis_id == identity)).one()
    assert track.thumbnail_key is not None
    stills = [(row.still_frame, row.still_key or "") for row in intervals(identity)]
    assert [frame for frame, _ in stills] == [2, 7, 12, 17]
    for key in [track.thumbnail_key, *(key for _, key in stills)]:
        assert storage().read(key)[:2] == b"\xff\xd8"  # JPEG
    drawn = ended(identity).artifacts["spectrogram"]
    assert drawn.startswith(track.thumbnail_key.rpartition("/")[0])
    assert storage().read(drawn)[:4] == b"\x89PNG"
    assert track.score is not None


@pytest.mark.usefixtures("no_weights")
def test_without_weights_nothing_is_scored_and_the_signals_are_still_measured(submit: Submit) -> None:
    identity = submit(CLIP)
    extract_media(hold(identity, Stage.EXTRACT))
    with pytest.raises(DetectorUnavailable) as caught:
        score_faces(hold(identity, Stage.VIDEO))
    assert "deepdefend models pull" in caught.value.extra["mend"]
    score_voice(hold(identity, Stage.AUDIO))
    assert ("audio", 0, "skipped", "no_detector_weights") in stages_of(identity)
    rows = intervals(identity)
    assert {row.audio_score for row in rows} == {None}
    assert {row.audio_reason for row in rows} == {"no_detector_weights"}
    assert all(row.audio is not None and row.audio["measures"] for row in rows)
    assert all(row.audio is not None and row.audio["speech_seconds"] > 0.5 for row in rows)


def without_a_face(folder: Path) -> Path:
    """A grey picture, and the voice of the sample over it."""
    path = folder / "grey.mkv"
    with av.open(str(SPEECH)) as source, av.open(str(path), "w") as made:
        voice = source.streams.audio[0]
        picture = made.add_stream("libx264", rate=5)
        picture.width, picture.height, picture.pix_fmt = 128, 96, "yuv420p"
        copied = made.add_stream_from_template(voice)
        for n in range(22):
            pixels = np.full((96, 128, 3), 40 + 5 * n, np.uint8)
            made.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        made.mux(picture.encode(None))
        for packet in source.demux(voice):
            if packet.dts is not None:
                packet.stream = copied
                made.mux(packet)
    return path


@pytest.mark.usefixtures("test_weights")
def test_a_voice_is_scored_where_no_face_was_found(submit: Submit, tmp_path: Path) -> None:
    identity = submit(without_a_face(tmp_path))
    work_through(identity)
    rows = intervals(identity)
    assert {row.video_reason for row in rows} == {"no_face"}
    assert {row.video_score for row in rows} == {None}
    assert all(row.audio_score is not None for row in rows[:2])
    report = ended(identity).report
    assert report is not None
    assert report["overall_scores"]["overall_audio_score"] is not None
    assert report["coverage"]["audio"]["noted_intervals"] == {}
    assert report["splices"] == []


@pytest.mark.usefixtures("test_weights")
def test_a_sound_file_has_no_picture_and_says_so(submit: Submit) -> None:
    identity = submit(SPEECH)
    work_through(identity)
    report = ended(identity).report
    assert report is not None
    assert report["overall_scores"]["overall_video_score"] is None
    assert report["overall_scores"]["overall_audio_score"] is not None
    assert report["video_info"]["fps"] is None
    assert {row.video_reason for row in intervals(identity)} == {"no_video_stream"}


@pytest.mark.usefixtures("test_weights")
def test_options_shape_the_timeline(submit: Submit) -> None:
    identity = submit(CLIP, interval_seconds=4, frames_per_interval=2)
    work_through(identity)
    rows = intervals(identity)
    assert [(row.start, row.end) for row in rows] == [(0.0, 4.0), (4.0, pytest.approx(8.0, abs=0.1))]
    assert [len(row.frames) for row in rows] == [2, 2]


def test_a_file_that_is_none_is_refused_with_its_code(submit: Submit, tmp_path: Path) -> None:
    text = tmp_path / "clip.mp4"
    text.write_text("this is no film\n" * 100)
    identity = submit(text)
    with pytest.raises(MediaError) as caught:
        extract_media(hold(identity, Stage.EXTRACT))
    assert caught.value.code == "unsupported_format"


def test_a_cancelled_extraction_uploads_nothing(submit: Submit) -> None:
    identity = submit(CLIP)
    held = hold(identity, Stage.EXTRACT)
    held.lose()
    with pytest.raises(Fenced):
        extract_media(held)
    assert list(storage().keys(f"analyses/{identity}/")) == []


@pytest.mark.usefixtures("test_weights")
def test_crops_reach_the_detector_without_loss(submit: Submit) -> None:
    identity = submit(CLIP)
    claim = hold(identity, Stage.EXTRACT)
    extract_media(claim)
    prefix = artifacts.scratch(claim.claim)
    manifest = artifacts.manifest_of(storage(), prefix, 0)
    crops = artifacts.crops_of(storage(), prefix, manifest.crop_shards[0].file)
    assert crops.dtype == np.uint8
    assert crops.shape == (20, CROP_SIDE, CROP_SIDE, 3)
    assert crops.std() > 20  # a picture, not a constant


def test_a_shard_brings_only_its_own_part_of_the_manifest(submit: Submit, tmp_path: Path) -> None:
    identity = submit(CLIP)
    claim = hold(identity, Stage.EXTRACT).claim
    manifest = build_manifest(shards=2, sound=False)
    for name in ("crops-0.npy", "crops-1.npy", "track-0.jpg", "frame-0.jpg"):
        (tmp_path / name).write_bytes(b"x")
    artifacts.publish(storage(), claim, tmp_path, manifest)
    parts = [artifacts.manifest_of(storage(), artifacts.scratch(claim), shard) for shard in (0, 1)]
    assert [[frame.interval for frame in part.frames] for part in parts] == [[0, 1], [2, 3]]
    assert parts[0].facts == manifest.facts


def test_sound_is_read_by_the_second(submit: Submit) -> None:
    identity = submit(SPEECH)
    claim = hold(identity, Stage.EXTRACT)
    extract_media(claim)
    key = artifacts.scratch(claim.claim) + "sound.wav"
    whole = artifacts.sound_of(storage(), key, 0.0, 4.0)
    part = artifacts.sound_of(storage(), key, 1.0, 2.5)
    assert whole.dtype == np.float32
    assert len(whole) == 64_000
    np.testing.assert_array_equal(part, whole[16_000:40_000])
    assert 0.01 < np.abs(whole).max() <= 1
    with pytest.raises(NotFound):
        artifacts.sound_of(storage(), key + "x", 0.0, 1.0)


@pytest.mark.usefixtures("test_weights")
def test_the_report_never_carries_the_file_name(submit: Submit) -> None:
    identity = submit(CLIP)
    work_through(identity)
    assert CLIP.name not in json.dumps(ended(identity).report)
