"""Evidence written down in one line: scores, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.domain import Modality, Reason, Region, SoundSignal
from core.evidence import (
    AudioFacts,
    AudioFinding,
    DetectorIdentity,
    FaceScore,
    MediaFacts,
    RegionEffect,
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
