"""The steps between two fusions that measure other deliveries of the same file, and asking for them later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, extract, func, select
from sqlalchemy.orm import Session, lazyload

from core import analyses, quotas, steps
from core.domain import AnalysisStatus, Lane, Options, Span, Stage, Terms, Variant
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
#: Why a variant was not measured then.
LATE: Final = "deadline_exceeded"


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


def short_of_time(session: Session, limit: int = 500) -> list[UUID]:
    """Living analyses with open variants that have to give way, the most urgent first."""
    return list(session.scalars(short_of_time_query().order_by(Analysis.deadline).limit(limit)))


def short_of_time_query() -> Select[UUID]:
    """Ids of them; `completed_at` and the first bound on the deadline let the index answer."""
    variant = exists().where(
        Step.analysis_id == Analysis.id, Step.stage == Stage.STABILITY.value, Step.closed_at.is_(None)
    )
    return select(Analysis.id).where(Analysis.completed_at.is_(None), *_short(), variant)


def _short() -> tuple[ColumnElement[bool], ...]:
    left = extract("epoch", Analysis.deadline - func.now())
    whole = extract("epoch", Analysis.deadline - Analysis.created_at)
    return Analysis.deadline < func.now() + RESERVE, left < whole * SHARE


def is_short_of_time(session: Session, analysis_id: UUID) -> bool:
    """Whether variants would come too late for the report."""
    query = select(Analysis.id).where(Analysis.id == analysis_id, *_short())
    return session.scalar(query) is not None


def give_way(session: Session, analysis_id: UUID) -> bool:
    """Close its open variants, so that the report comes without them; who has one in hand is fenced.

    False when none was open any more.
    """
    if not steps.lock_active(session, analysis_id):
        return False
    if not steps.abandon(session, analysis_id, LATE, stage=Stage.STABILITY):
        return False
    analyses.touch(session, analysis_id)
    events.owe_progress(session, analysis_id, Stage.STABILITY)
    return True


def none_in_time() -> tuple[Outcome, ...]:
    """The outcomes of variants that nobody began."""
    return tuple(Outcome(variant=variant, reason=LATE) for variant in Variant)


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
