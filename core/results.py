"""What extraction, the branches and fusion found, each written in the transaction that closes its step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core import analyses, steps
from core.domain import AnalysisStatus, Modality, Reason, Stage, StepStatus
from core.evidence import AudioFinding, Frame, Manifest, VideoFinding
from core.models import Interval, Step, Track
from core.report import Report
from core.webhooks import events


def record_extraction(
    session: Session,
    claim: steps.Claim,
    manifest: Manifest,
    *,
    scratch: str,
    thumbnails: dict[str, str],
    whole: dict[str, str] | None = None,
) -> None:
    """Keep what extraction found and owe what follows, together with the closing of its step.

    `scratch` is the prefix of the working objects; `thumbnails` maps file names of the manifest to
    object keys, `whole` what shows the whole file, as `spectrogram`.
    """
    analyses.touch(session, claim.analysis_id)
    analysis = analyses.load(session, claim.analysis_id)
    analysis.file.facts = manifest.facts.model_dump(mode="json")
    analysis.artifacts = whole or {}
    _write_timeline(session, claim.analysis_id, manifest, thumbnails)
    _write_tracks(session, claim.analysis_id, manifest, thumbnails)
    steps.finish(session, claim, detail={"frames": len(manifest.frames), "sandbox": manifest.sandbox})
    steps.owe(session, claim.analysis_id, _following(manifest, scratch))
    events.owe_progress(session, claim.analysis_id, claim.stage)


def _following(manifest: Manifest, scratch: str) -> Iterable[steps.NewStep]:
    for crops in manifest.crop_shards:
        yield steps.NewStep(
            stage=Stage.VIDEO,
            shard=crops.shard,
            payload={"scratch": scratch, "crops": crops.model_dump(mode="json")},
        )
    for sound in manifest.sound_shards:
        yield steps.NewStep(
            stage=Stage.AUDIO,
            shard=sound.shard,
            payload={"scratch": scratch, "sound": sound.model_dump(mode="json")},
        )
    yield steps.NewStep(stage=Stage.FUSE, payload={"scratch": scratch})


def _write_timeline(
    session: Session, analysis_id: UUID, manifest: Manifest, thumbnails: dict[str, str]
) -> None:
    """Rows for every interval. Written anew: an earlier attempt's rows went with its transaction."""
    owed_to_video = {index for shard in manifest.crop_shards for index in shard.intervals}
    frames: dict[int, list[Frame]] = {span.index: [] for span in manifest.spans}
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
                Reason.NOT_ANALYZED if span.index in owed_to_video else manifest.unseen(frames[span.index])
            ).value,
            audio_reason=(Reason.NOT_ANALYZED if manifest.sound_file else manifest.unheard()).value,
            frames=[frame.model_dump(mode="json") for frame in frames[span.index]],
            still_key=thumbnails.get(manifest.frame_thumbnails.get(span.index, "")),
            still_frame=manifest.thumbnail_frames.get(span.index),
        )
        for span in manifest.spans
    )


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
            lips=track.lips.model_dump(mode="json") if track.lips else None,
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
    analyses.touch(session, claim.analysis_id)
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
    events.owe_progress(session, claim.analysis_id, claim.stage)


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
    column = Interval.video_reason if step.stage == Stage.VIDEO.value else Interval.audio_reason
    session.execute(
        update(Interval)
        .where(
            Interval.analysis_id == step.analysis_id,
            Interval.index.in_(_indices(step)),
            column == Reason.NOT_ANALYZED.value,
        )
        .values({column.key: steps.why_lost(step).value})
    )


def _indices(step: Step) -> list[int]:
    """The intervals that a branch owed."""
    if step.stage == Stage.VIDEO.value:
        return list(step.payload["crops"]["intervals"])
    sound = step.payload["sound"]
    return list(range(sound["first_interval"], sound["last_interval"] + 1))


def complete(session: Session, claim: steps.Claim, report: Report) -> None:
    """Close fusion and the analysis with its report, in one transaction. Raises Fenced."""
    analyses.touch(session, claim.analysis_id)
    for track in report.tracks:
        session.execute(
            update(Track)
            .where(Track.analysis_id == claim.analysis_id, Track.track == track.id)
            .values(score=track.score)
        )
    steps.finish(session, claim, detail=report.narrator.model_dump(mode="json"))
    analyses.transition(
        session,
        claim.analysis_id,
        AnalysisStatus.COMPLETED,
        report=report.model_dump(mode="json"),
        verdict=report.verdict.value,
        confidence=report.confidence,
    )
