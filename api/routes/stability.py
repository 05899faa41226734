"""Ask later what other deliveries of an analysed file would say."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import envelopes, idempotency
from api.body import read_object
from api.dependencies import Writer
from api.form import strictly
from api.openapi import IDEMPOTENCY_KEY, json_body, problems
from api.routes.analyses import ACCEPTED, acceptance
from api.schemas import Analysis
from core import failpoints, listing, stability
from core.config import settings
from core.db import read, transaction
from core.domain import Lane
from core.idempotency import Answer, fingerprint, recall, settle
from core.keys import Caller

router = APIRouter(prefix=envelopes.ANALYSES, tags=["analyses"])
OPERATION: Final = "measure_stability"


class StabilityWish(BaseModel):
    """How urgent it is; everything else is as the first analysis had it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lane: Lane = Lane.BATCH


@router.post(
    "/{analysis_id}/stability",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Analysis,
    responses={
        202: ACCEPTED,
        **problems(401, 403, 404, 408, 409, 413, 415, 422),
    },
    openapi_extra={"parameters": [IDEMPOTENCY_KEY], **json_body(StabilityWish, required=False)},
)
async def measure_stability(analysis_id: UUID, request: Request, caller: Writer) -> Response:
    """Analyse the same stored file once more, now with `stability`: re-encoded, scaled and cropped copies.

    A report never changes, so this makes a new analysis with `derived_from`. 409: the first one has not ended
    (`not_ended`), has no report (`no_report`), or its file is gone (`media_erased`).
    """
    async with idempotency.held(request, caller) as held:
        idle = settings().limits.upload_idle.total_seconds()
        wish = strictly(StabilityWish, await read_object(request, idle=idle, empty=True))
        answer = await run_in_threadpool(_accept, caller, analysis_id, wish, held)
    return JSONResponse(answer.body, answer.status, answer.headers)


def _accept(caller: Caller, analysis_id: UUID, wish: StabilityWish, held: idempotency.Held | None) -> Answer:
    """Owe the work and keep the answer in one transaction."""
    asked = fingerprint(OPERATION, {"analysis_id": str(analysis_id), **wish.model_dump(mode="json")})
    if held is not None and held.answered:
        with read() as session:
            kept = recall(session, held.claim, payload=asked)
        return kept.model_copy(update={"headers": kept.headers | {idempotency.REPLAYED: "true"}})
    with transaction() as session:
        row = stability.ask_again(session, caller=caller, analysis_id=analysis_id, lane=wish.lane)
        answer = acceptance(row, listing.stages(session, row.id))
        if held is not None:
            settle(session, held.claim, payload=asked, answer=answer, analysis_id=row.id)
    failpoints.reach(failpoints.Point.API_ACCEPTED)
    return answer
