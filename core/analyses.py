"""Every change of an analysis. Its status moves only through `transition`, and ends once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from core import steps
from core.config import settings
from core.domain import (
    ANALYSIS_TRANSITIONS,
    TERMINAL,
    AnalysisStatus,
    Frozen,
    Modality,
    Options,
    Reason,
    Stage,
    StepStatus,
)
from core.errors import DeepDefendError, NotFound
from core.evidence import AudioFinding, Manifest, VideoFinding
from core.keys import Caller
from core.models import Analysis, Interval, Media, Step, Track


class StoredUpload(Frozen):
    """Bytes that are in the storage but belong to no analysis yet."""

    sha256: str  #: hex
    size_bytes: int
    object_key: str
    filename: str | None = None


class Submission:
    """An accepted analysis, and the object that turned out to be stored already."""

    def __init__(self, analysis: Analysis, surplus_key: str | None) -> None:
        self.analysis = analysis
        #: Delete this object after the commit: the owner had the same bytes before.
        self.surplus_key = surplus_key


def submit(
    session: Session,
    *,
    caller: Caller,
    upload: StoredUpload,
    options: Options,
    metadata: dict[str, Any] | None = None,
) -> Submission:
    """Accept an analysis: media, analysis and its first step in one transaction."""
    media = _media_of(session, caller.owner, upload)
    analysis = Analysis(
        id=uuid7(),
        owner=caller.owner,
        media=media,
        filename=upload.filename,
        options=options.model_dump(mode="json"),
        metadata_=metadata or {},
        status=AnalysisStatus.QUEUED.value,
        deadline=func.now() + settings().deadline,
    )
    session.add(analysis)
    session.flush()
    session.refresh(analysis)
    steps.owe(session, analysis.id, [steps.NewStep(stage=Stage.EXTRACT)])
    return Submission(analysis, None if media.object_key == upload.object_key else upload.object_key)


def _media_of(session: Session, owner: str, upload: StoredUpload) -> Media:
    """The one media row of these bytes; two uploads at once agree on it through the unique key."""
    session.execute(
        insert(Media)
        .values(
            id=uuid7(),
            owner=owner,
            sha256=upload.sha256,
            size_bytes=upload.size_bytes,
            object_key=upload.object_key,
        )
        .on_conflict_do_nothing(index_elements=[Media.owner, Media.sha256])
    )
    return session.scalars(select(Media).where(Media.owner == owner, Media.sha256 == upload.sha256)).one()


def find(session: Session, owner: str, analysis_id: UUID) -> Analysis:
    """The owner's analysis. Raises NotFound, also for another owner's."""
    row = session.scalar(select(Analysis).where(Analysis.id == analysis_id, Analysis.owner == owner))
    if row is None:
        raise NotFound("there is no such analysis, or it is not yours")
    return row


def load(session: Session, analysis_id: UUID) -> Analysis:
    """An analysis for a worker, which acts for every owner. Raises NotFound."""
    row = session.get(Analysis, analysis_id)
    if row is None:
        raise NotFound("there is no such analysis")
    return row


def transition(session: Session, analysis_id: UUID, to: AnalysisStatus, **values: Any) -> bool:
    """Move an analysis to a status that may follow the one it has; False when it may not.

    Ending it also closes its open steps, so that a worker still busy with one is fenced.
    """
    sources = [status.value for status, after in ANALYSIS_TRANSITIONS.items() if to in after]
    if to in TERMINAL:
        values["completed_at"] = func.clock_timestamp()
    result = session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id, Analysis.status.in_(sources))
        .values(status=to.value, version=Analysis.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    moved = isinstance(result, CursorResult) and result.rowcount == 1
    if moved and to in TERMINAL:
        steps.abandon(session, analysis_id, f"analysis_{to.value}")
    return moved


def begin(session: Session, analysis_id: UUID) -> None:
    """A worker has claimed a step: the analysis is being worked on, and watchers should look."""
    if not transition(session, analysis_id, AnalysisStatus.PROCESSING, started_at=func.now()):
        touch(session, analysis_id)


def touch(session: Session, analysis_id: UUID) -> None:
    """Something visible changed: the version, and with it the ETag, grows."""
    session.execute(
        update(Analysis)
        .where(Analysis.id == analysis_id)
        .values(version=Analysis.version + 1)
        .execution_options(synchronize_session=False)
    )


def fail(session: Session, analysis_id: UUID, error: DeepDefendError) -> bool:
    """End an analysis that can have no report; the problem document says why."""
    return transition(session, analysis_id, AnalysisStatus.FAILED, error=error.problem())


def record_extraction(
    session: Session, claim: steps.Claim, manifest: Manifest, thumbnails: dict[str, str]
) -> None:
    """Keep what extraction found and owe what follows, together with the closing of its step.

    `thumbnails` maps file names of the manifest to object keys.
    """
    analysis = load(session, claim.analysis_id)
    analysis.media.facts = manifest.facts.model_dump(mode="json")
    _write_timeline(session, claim.analysis_id, manifest)
    _write_tracks(session, claim.analysis_id, manifest, thumbnails)
    steps.finish(session, claim, detail={"frames": len(manifest.frames), "sandbox": manifest.sandbox})
    steps.owe(session, claim.analysis_id, _following(manifest))
    touch(session, claim.analysis_id)


def _following(manifest: Manifest) -> Iterable[steps.NewStep]:
    for crops in manifest.crop_shards:
        yield steps.NewStep(stage=Stage.VIDEO, shard=crops.shard, payload=crops.model_dump(mode="json"))
    for sound in manifest.sound_shards:
        yield steps.NewStep(stage=Stage.AUDIO, shard=sound.shard, payload=sound.model_dump(mode="json"))
    yield steps.NewStep(stage=Stage.FUSE)


def _write_timeline(session: Session, analysis_id: UUID, manifest: Manifest) -> None:
    """Rows for every interval. Written anew: an earlier attempt's rows went with its transaction."""
    owed_to_video = {index for shard in manifest.crop_shards for index in shard.intervals}
    frames: dict[int, list[Any]] = {span.index: [] for span in manifest.spans}
    for frame in manifest.frames:
        frames[frame.interval].append(frame)
    session.execute(delete(Interval).where(Interval.analysis_id == analysis_id))
    session.add_all(
        Interval(
            analysis_id=analysis_id,
            index=span.index,
            start=span.start,
            end=span.end,
            video_reason=(
                Reason.NOT_ANALYZED if span.index in owed_to_video else _unseen(manifest, frames[span.index])
            ).value,
            audio_reason=(Reason.NOT_ANALYZED if manifest.sound_file else Reason.NO_AUDIO_STREAM).value,
            frames=[frame.model_dump(mode="json") for frame in frames[span.index]],
        )
        for span in manifest.spans
    )


def _unseen(manifest: Manifest, frames: Sequence[Any]) -> Reason:
    """Why an interval has no crop to score."""
    if manifest.facts.video is None:
        return Reason.NO_VIDEO_STREAM
    if not frames:
        return Reason.CUT_SHORT if manifest.facts.cut_short else Reason.DECODE_ERROR
    reasons = [face.reason for frame in frames for face in frame.faces if face.reason is not None]
    return max(set(reasons), key=reasons.count) if reasons else Reason.NO_FACE


def _write_tracks(
    session: Session, analysis_id: UUID, manifest: Manifest, thumbnails: dict[str, str]
) -> None:
    session.execute(delete(Track).where(Track.analysis_id == analysis_id))
    session.add_all(
        Track(
            analysis_id=analysis_id,
            track=track.id,
            start=track.start,
            end=track.end,
            frames=track.frames,
            thumbnail_key=thumbnails.get(track.thumbnail) if track.thumbnail else None,
        )
        for track in manifest.tracks
    )


def record_findings(
    session: Session,
    claim: steps.Claim,
    findings: Sequence[VideoFinding] | Sequence[AudioFinding],
    *,
    status: StepStatus = StepStatus.DONE,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write one branch's interval scores and close its step, in one transaction."""
    modality = Modality(claim.stage.value).value
    for finding in findings:
        session.execute(
            update(Interval)
            .where(Interval.analysis_id == claim.analysis_id, Interval.index == finding.index)
            .values(
                {
                    f"{modality}_score": finding.score,
                    f"{modality}_reason": finding.reason.value if finding.reason else None,
                    modality: finding.model_dump(mode="json"),
                }
            )
        )
    steps.finish(session, claim, status=status, reason=reason, detail=detail)
    touch(session, claim.analysis_id)


def record_lost_branches(session: Session, analysis_id: UUID) -> None:
    """Name the reason of intervals whose branch closed without results, so that none stays open."""
    closed = session.scalars(
        select(Step).where(
            Step.analysis_id == analysis_id,
            Step.stage.in_([modality.value for modality in Modality]),
            Step.status != StepStatus.DONE.value,
        )
    )
    for step in closed:
        _name_reason(session, step)


def _name_reason(session: Session, step: Step) -> None:
    indices = step.payload.get("intervals") or range(
        step.payload["first_interval"], step.payload["last_interval"] + 1
    )
    known = {reason.value for reason in Reason}
    reason = step.reason if step.reason in known else Reason.DETECTOR_FAILED.value
    column = Interval.video_reason if step.stage == Stage.VIDEO.value else Interval.audio_reason
    session.execute(
        update(Interval)
        .where(
            Interval.analysis_id == step.analysis_id,
            Interval.index.in_(list(indices)),
            column == Reason.NOT_ANALYZED.value,
        )
        .values({column.key: reason})
    )


def complete(
    session: Session,
    claim: steps.Claim,
    *,
    report: dict[str, Any],
    verdict: str,
    confidence: float | None,
    track_scores: dict[int, float],
) -> None:
    """Close fusion and the analysis with its report, in one transaction. Raises Fenced."""
    for track, score in track_scores.items():
        session.execute(
            update(Track)
            .where(Track.analysis_id == claim.analysis_id, Track.track == track)
            .values(score=score)
        )
    steps.finish(session, claim, detail={"narrator": report.get("narrator")})
    transition(
        session,
        claim.analysis_id,
        AnalysisStatus.COMPLETED,
        report=report,
        verdict=verdict,
        confidence=confidence,
    )


def end_overdue(session: Session) -> list[UUID]:
    """Fail what passed its deadline; returns their ids."""
    active = [AnalysisStatus.QUEUED.value, AnalysisStatus.PROCESSING.value]
    overdue = session.scalars(
        select(Analysis.id)
        .where(Analysis.status.in_(active), Analysis.deadline < func.now())
        .with_for_update(skip_locked=True)
    ).all()
    for analysis_id in overdue:
        fail(session, analysis_id, DeepDefendError("not done before its deadline", code="deadline_exceeded"))
    return list(overdue)


def end_stuck(session: Session) -> list[UUID]:
    """Fail analyses whose extraction or fusion failed for good, which no report can follow."""
    active = [AnalysisStatus.QUEUED.value, AnalysisStatus.PROCESSING.value]
    stuck = session.execute(
        select(Step.analysis_id, Step.stage, Step.reason)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(
            Analysis.status.in_(active),
            Step.stage.in_([Stage.EXTRACT.value, Stage.FUSE.value]),
            Step.status == StepStatus.FAILED.value,
        )
        .with_for_update(of=Step, skip_locked=True)
    ).all()
    for analysis_id, stage, reason in stuck:
        error = DeepDefendError(f"{stage} failed for good: {reason}", code=reason or "internal_error")
        fail(session, analysis_id, error)
    return [analysis_id for analysis_id, _, _ in stuck]
