"""Interval rows: written with the closing of their step, null with a reason, never half."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core import analyses, db, dossier, results, steps
from core.config import settings
from core.domain import Reason, Region, Stage, StepStatus
from core.errors import Fenced
from core.evidence import AudioFacts, AudioFinding, FaceScore, Frame, LipSync, RegionEffect, VideoFinding
from core.models import Analysis, Interval, Track
from core.report import Report
from tests.core.factories import (
    VIDEO,
    build_manifest,
    build_report,
    claim_step,
    create_analysis,
    expire_leases,
    extract,
    face,
)


def rows(session: Session, analysis: Analysis) -> list[Interval]:
    session.expire_all()
    query = select(Interval).where(Interval.analysis_id == analysis.id).order_by(Interval.index)
    return list(session.scalars(query))


def test_extraction_leaves_a_timeline_tracks_and_what_is_owed(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    intervals = rows(session, analysis)
    assert [(row.start, row.end) for row in intervals] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert {(row.video_reason, row.audio_reason) for row in intervals} == {("not_analyzed", "not_analyzed")}
    assert intervals[0].frames[0]["faces"][0]["track"] == 0
    track = session.scalars(select(Track).where(Track.analysis_id == analysis.id)).one()
    assert track.thumbnail_key == "pictures/track-0.jpg"
    assert analyses.load(session, analysis.id).file.facts["container"] == "mp4"  # type: ignore[index]
    video = steps.of_analysis(session, analysis.id)[1]
    assert video.payload["crops"]["intervals"] == [0, 1, 2, 3]
    assert video.payload["scratch"] == f"analyses/{analysis.id}/work-1/"


def test_lips_and_the_picture_of_the_whole_sound_are_kept(session: Session) -> None:
    analysis = create_analysis(session)
    manifest, lips = build_manifest(), LipSync(correlation=0.7, lag_seconds=0.02, seconds=4, null_share=0.3)
    talker = manifest.tracks[0].model_copy(update={"lips": lips})
    results.record_extraction(
        session,
        claim_step(session, analysis.id, Stage.EXTRACT),
        manifest.model_copy(update={"tracks": (talker,)}),
        scratch="work-1/",
        thumbnails={},
        whole={"spectrogram": "pictures-1/spectrogram.png"},
    )
    session.expire_all()
    assert analyses.load(session, analysis.id).artifacts == {"spectrogram": "pictures-1/spectrogram.png"}
    assert dossier.tracks_of(session, analysis.id)[0].lips == lips


@pytest.mark.parametrize(
    ("manifest", "video", "audio"),
    [
        ({"video": False}, Reason.NO_VIDEO_STREAM, Reason.NOT_ANALYZED),
        ({"faces": False}, Reason.NO_FACE, Reason.NOT_ANALYZED),
        ({"sound": False}, Reason.NOT_ANALYZED, Reason.NO_AUDIO_STREAM),
        ({"sound": False, "faces": False}, Reason.NO_FACE, Reason.NO_AUDIO_STREAM),
    ],
)
def test_what_is_absent_has_its_reason_at_once(
    session: Session, manifest: dict[str, bool], video: Reason, audio: Reason
) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(**manifest))
    found = {(row.video_reason, row.audio_reason) for row in rows(session, analysis)}
    assert found == {(video.value, audio.value)}


def test_sound_that_could_not_be_decoded_is_not_said_to_be_missing(session: Session) -> None:
    manifest = build_manifest(sound=False)
    broken = AudioFacts(codec="vorbis", sample_rate=0, channels=0, decode_errors=9)
    facts = manifest.facts.model_copy(update={"audio": broken})
    analysis = create_analysis(session)
    extract(session, analysis, manifest.model_copy(update={"facts": facts}))
    assert {row.audio_reason for row in rows(session, analysis)} == {Reason.DECODE_ERROR.value}


def test_the_commonest_reason_of_unscorable_faces_is_the_intervals(session: Session) -> None:
    manifest = build_manifest(2.0, faces=False)
    small, dark = Reason.FACE_TOO_SMALL, Reason.TOO_DARK
    faces = tuple(face(n, shard=None, row=None, reason=r) for n, r in enumerate((small, dark, small)))
    seen = manifest.model_copy(update={"frames": (Frame(n=0, interval=0, time=1.0, faces=faces),)})
    analysis = create_analysis(session)
    extract(session, analysis, seen)
    assert rows(session, analysis)[0].video_reason == small.value


@pytest.mark.parametrize(
    ("cut", "errors", "reason"),
    [
        (True, 0, Reason.CUT_SHORT),
        (True, 3, Reason.CUT_SHORT),
        (False, 3, Reason.DECODE_ERROR),
        (False, 0, Reason.NO_NEW_FRAME),
    ],
)
def test_an_interval_without_frames_says_what_became_of_them(
    session: Session, cut: bool, errors: int, reason: Reason
) -> None:
    manifest = build_manifest(4.0, faces=False)
    video = VIDEO.model_copy(update={"decode_errors": errors})
    facts = manifest.facts.model_copy(update={"cut_short": cut, "video": video})
    analysis = create_analysis(session)
    extract(session, analysis, manifest.model_copy(update={"frames": manifest.frames[:1], "facts": facts}))
    assert [row.video_reason for row in rows(session, analysis)] == [Reason.NO_FACE.value, reason.value]


def video_finding(index: int, score: float | None = 0.8) -> VideoFinding:
    seen = FaceScore(frame=index, time=2 * index + 1, track=0, box=(200, 100, 120, 140), score=score or 0)
    return VideoFinding(
        index=index,
        faces=(seen,) if score is not None else (),
        score=score,
        reason=None if score is not None else Reason.OCCLUDED,
        regions=(RegionEffect(region=Region.EYES, drop=0.3, spread=0.05),),
        detectors={"test": score} if score is not None else {},
    )


def test_findings_and_the_closing_of_the_step_are_one(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    claim = claim_step(session, analysis.id, Stage.VIDEO)
    findings = [video_finding(0), video_finding(1, None)]
    results.record_findings(session, claim, findings, detail={"detector": {"id": "test"}})
    found = rows(session, analysis)
    assert [(row.video_score, row.video_reason) for row in found[:3]] == [
        (0.8, None),
        (None, "occluded"),
        (None, "not_analyzed"),
    ]
    assert found[0].video["regions"][0]["region"] == "eyes"  # type: ignore[index]
    assert found[0].audio_reason == "not_analyzed"
    assert steps.of_analysis(session, analysis.id)[1].detail == {"detector": {"id": "test"}}


def test_a_fenced_workers_findings_are_gone_with_its_transaction(clean_database: str) -> None:
    with db.transaction() as session:
        analysis = create_analysis(session)
        extract(session, analysis, build_manifest())
        claim = claim_step(session, analysis.id, Stage.VIDEO)
        expire_leases(session)
        steps.requeue_expired(session, settings().steps)
    with pytest.raises(Fenced), db.transaction() as session:
        results.record_findings(session, claim, [video_finding(0)])
    with db.transaction() as session:
        assert clean_database
        assert rows(session, analysis)[0].video_score is None


def test_the_sound_step_writes_its_own_columns(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    claim = claim_step(session, analysis.id, Stage.AUDIO)
    finding = AudioFinding(index=0, score=None, reason=Reason.SILENCE, level_dbfs=-80.0)
    results.record_findings(
        session, claim, [finding], status=StepStatus.SKIPPED, reason="no_detector_weights"
    )
    row = rows(session, analysis)[0]
    assert (row.audio_reason, row.audio["level_dbfs"]) == ("silence", -80.0)  # type: ignore[index]
    assert row.video_reason == "not_analyzed"


def test_a_score_and_a_reason_exclude_each_other(session: Session) -> None:
    extract(session, create_analysis(session), build_manifest())
    with pytest.raises(IntegrityError, match="video_score_or_reason"), session.begin_nested():
        session.execute(text("UPDATE intervals SET video_score = 0.5"))
    with pytest.raises(IntegrityError, match="audio_score_or_reason"), session.begin_nested():
        session.execute(text("UPDATE intervals SET audio_reason = NULL"))


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (StepStatus.SKIPPED, "wrong_digest", "no_detector_weights"),
        (StepStatus.FAILED, "worker_lost", "worker_lost"),
        (StepStatus.FAILED, "internal_error", "detector_failed"),
        (StepStatus.FAILED, None, "detector_failed"),
    ],
)
def test_a_lost_branch_leaves_its_reason(
    session: Session, status: StepStatus, reason: str | None, expected: str
) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(shards=2))
    done = claim_step(session, analysis.id, Stage.VIDEO, 0)
    results.record_findings(session, done, [video_finding(n) for n in (0, 1)])
    for stage, shard in ((Stage.VIDEO, 1), (Stage.AUDIO, 0)):
        lost = claim_step(session, analysis.id, stage, shard)
        steps.finish(session, lost, status=status, reason=reason)
    results.record_lost_branches(session, analysis.id)
    found = rows(session, analysis)
    assert [row.video_reason for row in found] == [None, None, expected, expected]
    assert {row.audio_reason for row in found} == {expected}


def test_completion_closes_fusion_and_the_analysis_together(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    for stage in (Stage.VIDEO, Stage.AUDIO):
        steps.finish(session, claim_step(session, analysis.id, stage))
    claim = claim_step(session, analysis.id, Stage.FUSE)
    written = build_report(session, analysis.id)
    results.complete(session, claim, written)
    session.expire_all()
    ended = analyses.load(session, analysis.id)
    assert (ended.status, ended.verdict, ended.confidence) == ("completed", "INCONCLUSIVE", None)
    assert ended.report is not None
    assert Report.model_validate_json(json.dumps(ended.report)) == written
    with pytest.raises(Fenced):
        results.complete(session, claim, written)


def test_a_track_keeps_the_mean_of_its_faces(session: Session) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest())
    claim = claim_step(session, analysis.id, Stage.VIDEO)
    results.record_findings(session, claim, [video_finding(n) for n in range(4)])
    steps.finish(session, claim_step(session, analysis.id, Stage.AUDIO))
    fusion = claim_step(session, analysis.id, Stage.FUSE)
    results.complete(session, fusion, build_report(session, analysis.id))
    assert session.scalars(select(Track.score)).one() == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("ambiguous_labels", "export DEEPDEFEND_MODELS__AUDIO_FAKE_LABEL=<label>"),
        ("no_detector_weights", "deepdefend models pull"),  # one command for both modalities
    ],
)
def test_the_report_names_the_command_that_really_mends_it(session: Session, reason: str, mend: str) -> None:
    analysis = create_analysis(session)
    extract(session, analysis, build_manifest(faces=False))
    claim = claim_step(session, analysis.id, Stage.AUDIO)
    findings = [AudioFinding(index=n, score=None, reason=Reason.NO_DETECTOR_WEIGHTS) for n in range(4)]
    detail = {"mend": "deepdefend models pull audio" if reason == "no_detector_weights" else mend}
    results.record_findings(session, claim, findings, status=StepStatus.SKIPPED, reason=reason, detail=detail)
    named = [cause.mend for cause in build_report(session, analysis.id).reasons if cause.mend]
    assert named == [mend]


def test_a_second_extraction_replaces_nothing_twice(session: Session) -> None:
    analysis = create_analysis(session)
    claim_step(session, analysis.id, Stage.EXTRACT)
    expire_leases(session)
    steps.requeue_expired(session, settings().steps)
    extract(session, analysis, build_manifest())
    assert len(rows(session, analysis)) == 4
    assert len(steps.of_analysis(session, analysis.id)) == 4
