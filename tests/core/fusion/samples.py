"""Evidence written down in one line: scores, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from core.domain import Modality, OperatingPoint, Reason, Region, SoundSignal
from core.evidence import (
    AudioFacts,
    AudioFinding,
    CalibrationSummary,
    DetectorIdentity,
    FaceScore,
    MediaFacts,
    OperatingLimits,
    RegionEffect,
    ScoreNull,
    Signal,
    VideoFacts,
    VideoFinding,
)
from core.fusion.inputs import IntervalEvidence

Cell = float | Reason

FACTS = MediaFacts(
    container="mov,mp4",
    duration=12.498711111111112,
    declared_duration=12.5,
    size_bytes=32_883_343,
    video=VideoFacts(
        codec="h264",
        width=1920,
        height=1080,
        rotation=0,
        pixel_format="yuv420p",
        fps=29.923085402583734,
        frames=374,
        variable_frame_rate=False,
    ),
    audio=AudioFacts(codec="aac", sample_rate=48_000, channels=2),
)
VIT = DetectorIdentity(
    id="dima806/deepfake_vs_real_image_detection",
    modality=Modality.VIDEO,
    version="0123abc",
    digest="sha256:" + "a" * 64,
    fake_label="Fake",
)
WAV2VEC = DetectorIdentity(
    id="mo-thecreator/Deepfake-audio-detection",
    modality=Modality.AUDIO,
    version="4567def",
    digest="sha256:" + "b" * 64,
    fake_label="fake",
)


def fitted(identity: DetectorIdentity) -> DetectorIdentity:
    """The same detector, calibrated: files of a minute and fpr_1 and fpr_5 alone."""
    points = [(OperatingPoint.FPR_1, 0.01, 0.9), (OperatingPoint.FPR_5, 0.05, 0.8)]
    limits = tuple(
        OperatingLimits(
            point=point,
            share=share,
            rate=rate,
            real_below=0.5,
            suspicious=suspicious if share == 1 else (1 + suspicious) / 2,
            decisive=0.9,
            run_floor=0.5,
            run_excess=((1, 2.0), (30, 3.5), (1800, 4.5)),
            doubt_excess=((1, 1.5), (30, 3.0), (1800, 4.0)),
        )
        for point, rate, suspicious in points
        for share in (1, 2)
    )
    calibration = CalibrationSummary(
        kind="platt",
        real_files=120,
        fake_files=120,
        intervals=3600,
        made_at=datetime(2026, 1, 2, tzinfo=UTC),
        digest="sha256:" + "e" * 64,
        interval_seconds=2.0,
        null=ScoreNull(mean=-2.5, sd=1.5, correlation=0.3, between=0.5, log_odds=True),
        limits=limits,
    )
    return identity.model_copy(update={"calibrated": True, "calibration": calibration})


def row(
    index: int,
    video: Cell = Reason.NO_VIDEO_STREAM,
    audio: Cell = Reason.NO_AUDIO_STREAM,
    *,
    seconds: float = 2.0,
    speech: float | None = None,
    regions: Sequence[tuple[Region, float, float]] = (),
    signals: Sequence[tuple[SoundSignal, float]] = (),
    faces: Sequence[tuple[int, float]] = (),
) -> IntervalEvidence:
    """One interval of `seconds`; a cell is a score or a reason; faces are (track, score)."""
    start = index * seconds
    return IntervalEvidence(
        index=index,
        start=start,
        end=start + seconds,
        video=VideoFinding(
            index=index,
            **_cell(video),
            regions=tuple(RegionEffect(region=r, drop=d, spread=s) for r, d, s in regions),
            faces=tuple(
                FaceScore(frame=n, time=start, track=track, box=(0, 0, 9, 9), score=score)
                for n, (track, score) in enumerate(faces)
            ),
        ),
        audio=AudioFinding(
            index=index,
            **_cell(audio),
            speech_seconds=speech,
            signals=tuple(Signal(signal=s, value=v, unit="Hz", threshold=10.0) for s, v in signals),
        ),
    )


def _cell(cell: Cell) -> dict[str, Any]:
    return {"score": None, "reason": cell} if isinstance(cell, Reason) else {"score": cell, "reason": None}


def rows(video: Sequence[Cell] | None = None, audio: Sequence[Cell] | None = None) -> list[IntervalEvidence]:
    """A timeline of 2 s intervals; a modality that is not given has no stream."""
    length = len(video if video is not None else audio or ())
    pictures = video if video is not None else [Reason.NO_VIDEO_STREAM] * length
    sounds = audio if audio is not None else [Reason.NO_AUDIO_STREAM] * length
    return [row(n, v, a) for n, (v, a) in enumerate(zip(pictures, sounds, strict=True))]
