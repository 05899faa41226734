"""Results of files as a run would have kept them, made of given scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.config import Limits, ModelSettings
from core.domain import Label, Options, Reason, Variant
from core.evidence import (
    AudioFacts,
    AudioFinding,
    FaceScore,
    MediaFacts,
    TraceFinding,
    VideoFacts,
    VideoFinding,
)
from core.fusion.inputs import IntervalEvidence
from evaluation.manifest import Entry
from evaluation.measured import Delivered, Delivery, Measured
from evaluation.panel import Absent, Panel, Setup, Subject

FACTS = MediaFacts(
    container="mp4",
    duration=8.0,
    declared_duration=8.0,
    size_bytes=1000,
    video=VideoFacts(
        codec="h264", width=64, height=64, rotation=0, pixel_format="yuv420p", fps=25.0, frames=200,
        variable_frame_rate=False,
    ),
    audio=AudioFacts(codec="aac", sample_rate=16000, channels=1),
)  # fmt: skip


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def entry(name: str, label: str, group: str | None = None) -> Entry:
    return Entry(name=name, path=Path(name), label=Label(label), group=group, sha256=digest(name))


def measured(
    name: str,
    video: Sequence[float | None],
    *,
    audio: float | None = 0.2,
    trace: float | None = None,
    statistics: Mapping[str, float] | None = None,
    delivered: Mapping[Variant, float] | None = None,
) -> Measured:
    """A file with these scores of its intervals; `delivered` gives a score of the video in each variant."""
    deliveries = tuple(Delivery(variant=one, video=(score,)) for one, score in (delivered or {}).items())
    return Measured(
        sha256=digest(name),
        facts=FACTS,
        intervals=tuple(_interval(n, score, audio, trace) for n, score in enumerate(video)),
        statistics=dict(statistics or {}),
        delivered=Delivered(intervals=tuple(range(len(video))), deliveries=deliveries)
        if deliveries
        else None,
    )


def _interval(n: int, video: float | None, audio: float | None, trace: float | None) -> IntervalEvidence:
    faces = (
        () if video is None else (FaceScore(frame=n, time=2.0 * n, track=0, box=(0, 0, 9, 9), score=video),)
    )
    return IntervalEvidence(
        index=n,
        start=2.0 * n,
        end=2.0 * n + 2,
        video=VideoFinding(
            index=n,
            score=video,
            reason=Reason.NO_FACE if video is None else None,
            faces=faces,
            trace=TraceFinding(detector="trace", threshold=0.9, score=trace, reason=None)
            if trace is not None
            else None,
        ),
        audio=AudioFinding(
            index=n,
            score=audio,
            reason=Reason.SILENCE if audio is None else None,
            speech_seconds=0.0 if audio is None else 2.0,
        ),
    )


def broken(name: str, code: str = "undecodable_media") -> Measured:
    return Measured(sha256=digest(name), error=code, detail="damaged")


def panel(*wanted: Subject) -> Panel:
    """Nobody is opened: what was measured is given."""
    setup = Setup(
        models=ModelSettings(), limits=Limits(), options=Options(), wanted=frozenset(wanted or Subject)
    )
    absent = Absent(
        code="no_detector_weights", detail="It is not on this machine.", mend="deepdefend models pull"
    )
    return Panel(setup, absent={subject: absent for subject in Subject if subject is not Subject.VERDICT})
