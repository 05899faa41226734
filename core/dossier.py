"""Everything Postgres holds of an analysis, read at one moment, for fusion to judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import analyses, steps
from core.domain import Frozen, Modality, Options, Stage, StepStatus
from core.evidence import AudioFinding, DetectorIdentity, MediaFacts, VideoFinding
from core.fusion.inputs import Branch, IntervalEvidence
from core.models import Interval, Step, Track


class TrackRow(Frozen):
    """One face through the video, with the mean of its scores."""

    id: int
    start: float
    end: float
    frames: int
    score: float | None


class Dossier(Frozen):
    """The evidence and where it came from."""

    analysis_id: UUID
    created_at: datetime
    sha256: str
    size_bytes: int
    options: Options
    facts: MediaFacts
    sandbox: str | None
    intervals: tuple[IntervalEvidence, ...]
    tracks: tuple[TrackRow, ...]
    branches: tuple[Branch, ...]  #: the ones that did not end `done`
    detectors: tuple[DetectorIdentity, ...]  #: who spoke, each once


def compile_dossier(session: Session, analysis_id: UUID) -> Dossier:
    """Read it all. Call after `results.record_lost_branches`, so that no interval is left open."""
    analysis = analyses.load(session, analysis_id)
    rows = steps.of_analysis(session, analysis_id)
    intervals = _intervals(session, analysis_id)
    return Dossier(
        analysis_id=analysis_id,
        created_at=analysis.created_at,
        sha256=analysis.media.sha256,
        size_bytes=analysis.media.size_bytes,
        options=Options.model_validate(analysis.options),
        facts=MediaFacts.model_validate(analysis.media.facts),
        sandbox=rows[0].detail.get("sandbox"),
        intervals=intervals,
        tracks=_tracks(session, analysis_id, intervals),
        branches=tuple(_branch(step) for step in rows if _is_lost(step)),
        detectors=_detectors(rows),
    )


def _intervals(session: Session, analysis_id: UUID) -> tuple[IntervalEvidence, ...]:
    rows = session.scalars(
        select(Interval).where(Interval.analysis_id == analysis_id).order_by(Interval.index)
    )
    return tuple(
        IntervalEvidence(
            index=row.index,
            start=row.start,
            end=row.end,
            video=VideoFinding.model_validate(
                {
                    **(row.video or {}),
                    "index": row.index,
                    "score": row.video_score,
                    "reason": row.video_reason,
                }
            ),
            audio=AudioFinding.model_validate(
                {
                    **(row.audio or {}),
                    "index": row.index,
                    "score": row.audio_score,
                    "reason": row.audio_reason,
                }
            ),
        )
        for row in rows
    )


def _tracks(
    session: Session, analysis_id: UUID, intervals: Sequence[IntervalEvidence]
) -> tuple[TrackRow, ...]:
    scores: dict[int, list[float]] = defaultdict(list)
    for interval in intervals:
        for face in interval.video.faces:
            scores[face.track].append(face.score)
    rows = session.scalars(select(Track).where(Track.analysis_id == analysis_id).order_by(Track.track))
    return tuple(
        TrackRow(
            id=row.track,
            start=row.start,
            end=row.end,
            frames=row.frames,
            score=fmean(scores[row.track]) if scores[row.track] else None,
        )
        for row in rows
    )


def _is_lost(step: Step) -> bool:
    branch = step.stage in {Stage.VIDEO.value, Stage.AUDIO.value}
    return branch and step.status in {StepStatus.FAILED.value, StepStatus.SKIPPED.value}


def _branch(step: Step) -> Branch:
    return Branch(
        modality=Modality(step.stage),
        status=StepStatus(step.status),
        reason=steps.why_lost(step),
        shard=step.shard,
    )


def _detectors(rows: Sequence[Step]) -> tuple[DetectorIdentity, ...]:
    identities = (
        DetectorIdentity.model_validate(step.detail["detector"]) for step in rows if "detector" in step.detail
    )
    return tuple(dict.fromkeys(identities))
