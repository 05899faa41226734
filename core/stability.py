"""The steps between two fusions that measure other deliveries of the same file, and asking for them later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, extract, func, select, update
from sqlalchemy.orm import Session, lazyload

from core import analyses, quotas, steps
from core.domain import AnalysisStatus, Lane, Options, Span, Stage, StepStatus, Terms, Variant
from core.errors import Conflict, NotFound
from core.fusion.stability import Outcome
from core.keys import Caller
from core.models import Analysis, Media, Step
from core.webhooks import endpoints, events

#: Shard of the fusion that comes after the variants.
SECOND: Final = 1
#: What variants leave of an analysis' time to the second fusion, which stands in a queue, makes pictures and
#: may ask a language model: so much, or of a short time that share.
RESERVE: Final = timedelta(minutes=2)
SHARE: Final = 0.25


def owe_variants(
    session: Session, claim: steps.Claim, spans: Sequence[Span], speakers: dict[str, str]
) -> None:
    """Close the first fusion and owe what must come before the second, in one transaction. Raises Fenced.

    `speakers` are the marks by id of the detectors that scored the original: no other is comparable.
    """
    analyses.touch(session, claim.analysis_id)
    steps.finish(session, claim, detail={"deferred": Stage.STABILITY.value, "intervals": len(spans)})
    parts = [span.model_dump(mode="json") for span in spans]
    payloads = [{"variant": variant.value, "parts": parts, "speakers": speakers} for variant in Variant]
    fleet = [
        steps.NewStep(stage=Stage.STABILITY, shard=shard, payload=payload)
        for shard, payload in enumerate(payloads)
    ]
    again = steps.NewStep(stage=Stage.FUSE, shard=SECOND, payload=claim.payload)
    steps.owe(session, claim.analysis_id, [*fleet, again])


def record_variant(session: Session, claim: steps.Claim, outcome: Outcome) -> None:
    """Keep what one variant gave, in the transaction that closes its step. Raises Fenced."""
    analyses.touch(session, claim.analysis_id)
    steps.finish(session, claim, detail={"outcome": outcome.model_dump(mode="json")})
    events.owe_progress(session, claim.analysis_id, claim.stage)


def give_way(session: Session) -> list[UUID]:
    """Close the variants of analyses that run out of time, so that the report comes without them.

    Returns the analyses; whoever has such a step in hand is fenced.
    """
    short = short_of_time_query()
    closed = session.execute(
        update(Step)
        .where(Step.id.in_(short))
        .values(
            status=StepStatus.SKIPPED.value,
            reason="deadline_exceeded",
            lease_owner=None,
            lease_expires=None,
            closed_at=func.now(),
        )
        .returning(Step.analysis_id)
    )
    return list(dict.fromkeys(closed.scalars()))


def short_of_time_query() -> Select[UUID]:
    """Ids of their open steps, locked; a step that another process holds waits for the next look."""
    left = extract("epoch", Analysis.deadline - func.now())
    whole = extract("epoch", Analysis.deadline - Analysis.created_at)
    return (
        select(Step.id)
        .join(Analysis, Analysis.id == Step.analysis_id)
        .where(
            Step.stage == Stage.STABILITY.value,
            Step.closed_at.is_(None),
            Analysis.completed_at.is_(None),
            left < func.least(RESERVE.total_seconds(), whole * SHARE),
            steps.readable(),
        )
        .with_for_update(of=Step, skip_locked=True)
    )


def ask_again(session: Session, *, caller: Caller, analysis_id: UUID, lane: Lane = Lane.BATCH) -> Analysis:
    """Accept a new analysis of the same stored file that measures stability; reports never change.

    It is served and kept as the first was, in the given lane. Raises TooManyRequests; NotFound, also for
    another owner's; Conflict `not_ended`, `no_report` or `media_erased`; what `check_address` raises.
    """
    quotas.take_place(session, caller.key_id)
    row = _locked(session, caller.owner, analysis_id)
    if row.completed_at is None:
        raise Conflict("it has not ended yet", code="not_ended")
    if row.status != AnalysisStatus.COMPLETED:
        raise Conflict(f"it has no report: {row.status}", code="no_report")
    if row.media_erased_at is not None or row.file.erased_at is not None:
        raise Conflict("its file has been erased", code="media_erased")
    endpoints.check_address(session, caller.owner, row.webhook_url)
    options = Options.model_validate(row.options).model_copy(update={"stability": True})
    wishes: dict[str, Any] = {"retention_hours": row.retention_hours, "webhook_url": row.webhook_url}
    return analyses.accept(
        session,
        caller=caller,
        media=row.file,
        source_url=row.source_url,
        filename=row.filename,
        options=options,
        terms=Terms(lane=lane, **wishes),
        metadata=row.metadata_,
        derived_from=row.id,
    )


def _locked(session: Session, owner: str, analysis_id: UUID) -> Analysis:
    """The owner's analysis and its file, locked as whoever condemns them locks them: in this order."""
    query = (
        select(Analysis)
        .options(lazyload(Analysis.media))
        .where(Analysis.id == analysis_id, Analysis.owner == owner)
        .with_for_update(key_share=True)
    )
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise NotFound("there is no such analysis, or it is not yours")
    media = select(Media).where(Media.id == row.media_id).with_for_update()
    session.execute(media.execution_options(populate_existing=True)).all()
    return row
