"""Everything Postgres holds of an analysis, read at one moment, for fusion to judge."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from core import analyses, models, steps
from core.domain import Frozen, Modality, Options, Reason, Stage, StepStatus, Variant
from core.evidence import AudioFinding, DetectorIdentity, LipSync, MediaFacts, Track, VideoFinding
from core.fusion.inputs import Branch, IntervalEvidence
from core.fusion.stability import Outcome
from core.models import Interval, Step


class Dossier(Frozen):
    """The evidence and where it came from."""

    analysis_id: UUID
    sha256: str
    options: Options
    facts: MediaFacts
    sandbox: str  #: level the decoder ran under
    intervals: tuple[IntervalEvidence, ...]
    tracks: tuple[Track, ...]
    branches: tuple[Branch, ...]  #: the ones that did not end `done`
    detectors: tuple[DetectorIdentity, ...]  #: who spoke, each once
    outcomes: tuple[Outcome, ...] = ()  #: of the variants, where stability was measured


def compile_dossier(session: Session, analysis_id: UUID) -> Dossier:
    """Read it all. Call after `results.record_lost_branches`, so that no interval is left open."""
    analysis = analyses.load(session, analysis_id)
    rows = steps.of_analysis(session, analysis_id)
    return Dossier(
        analysis_id=analysis_id,
        sha256=analysis.file.sha256,
        options=Options.model_validate(analysis.options),
        facts=MediaFacts.model_validate(analysis.file.facts),
        sandbox=rows[0].detail["sandbox"],
        intervals=intervals_of(session, analysis_id),
        tracks=tracks_of(session, analysis_id),
        branches=tuple(_branch(step) for step in rows if _is_lost(step)),
        detectors=_detectors(rows),
        outcomes=tuple(_outcome(step) for step in rows if step.stage == Stage.STABILITY.value),
    )


def intervals_of(session: Session, analysis_id: UUID) -> tuple[IntervalEvidence, ...]:
    """What was found in each interval, in the order of time, without its frames."""
    rows = session.scalars(
        select(Interval)
        .where(Interval.analysis_id == analysis_id)
        .order_by(Interval.index)
        .options(defer(Interval.frames))  # most of the row, and nothing that is judged
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


def tracks_of(session: Session, analysis_id: UUID) -> tuple[Track, ...]:
    """Every face that was followed; `thumbnail` is an object key, null once the picture is erased."""
    rows = session.scalars(
        select(models.Track).where(models.Track.analysis_id == analysis_id).order_by(models.Track.track)
    )
    return tuple(
        Track(
            id=row.track,
            start=row.start,
            end=row.end,
            frames=row.frames,
            thumbnail=row.thumbnail_key,
            lips=None if row.lips is None else LipSync.model_validate(row.lips),
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
        # Missing weights have one command for all of them; a refused checkpoint has its own.
        mend=step.detail.get("mend") if step.reason != Reason.NO_DETECTOR_WEIGHTS.value else None,
        shard=step.shard,
    )


def _outcome(step: Step) -> Outcome:
    """What a variant gave; one that was not measured says why."""
    if "outcome" in step.detail:
        return Outcome.model_validate(step.detail["outcome"])
    return Outcome(variant=Variant(step.payload["variant"]), reason=step.reason)


def _detectors(rows: Sequence[Step]) -> tuple[DetectorIdentity, ...]:
    """Who spoke, each once; a step names one, or the one that decides and then the ones that inform."""
    told = [one for step in rows for one in step.detail.get("detectors") or [step.detail.get("detector")]]
    identities = (DetectorIdentity.model_validate(one) for one in told if one is not None)
    return tuple(dict.fromkeys(identities))
