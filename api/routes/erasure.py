"""Erase an analysis and read the receipt; hold one against erasure."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Final
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response, status
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import envelopes, erasure_schemas
from api.body import read_object
from api.dependencies import Reader, Writer, scoped
from api.erasure_schemas import ERASURES, NewHold, Receipt
from api.form import strictly
from api.openapi import ETAG, RETRY_AFTER, json_body, problems
from api.schemas import Analysis
from core import listing, logging, models, retention
from core.config import settings
from core.db import read, transaction
from core.errors import NotFound, StorageError
from core.keys import Caller, Scope

log = logging.get(__name__)
router = APIRouter(tags=["erasure"])
Admin = Annotated[Caller, Depends(scoped(Scope.ADMIN))]
LOCATION: Final = {"schema": {"type": "string"}, "description": "Path of the receipt."}
#: How long a caller waits for a slow storage before the rest is left to the dispatcher.
PATIENCE_SECONDS: Final = 10
#: Erasures that may talk to the storage at once: their own, so that a hung one stops no other call.
ERASURE_THREADS: Final = 8
#: Seconds until a pending receipt is worth another look.
LOOK_AGAIN: Final = 5
PRIVATE: Final = {"Cache-Control": "private, no-store"}


@router.delete(
    envelopes.ANALYSES + "/{analysis_id}",
    response_model=Receipt,
    responses={
        200: {"description": "It is erased; this is the receipt."},
        202: {
            "model": Receipt,
            "description": "It is gone from the database, and on its way out of the storage.",
            "headers": {"Location": LOCATION, "Retry-After": RETRY_AFTER},
        },
        **problems(401, 403, 404, 409, 422),
    },
)
async def delete_analysis(request: Request, analysis_id: UUID, caller: Writer) -> Response:
    """Erase an analysis and everything of it: file, pictures, report, intervals, stored answers, deliveries.

    One that is at work is ended first. Nobody is told of the end by webhook. Deleting it again gives the
    receipt again; one under a legal hold stays: 409 `legal_hold`.
    """
    found = await run_in_threadpool(_condemn, caller, analysis_id, request.state.request_id)
    if not found.complete:
        # The rows are gone and the rest is owed: whatever happens from here on, the dispatcher ends it.
        with anyio.move_on_after(PATIENCE_SECONDS):
            await anyio.to_thread.run_sync(
                _carry_out, found.id, limiter=request.app.state.erasure_threads, abandon_on_cancel=True
            )
        found = await run_in_threadpool(_receipt, caller, analysis_id)
    return _shown(found)


def _condemn(caller: Caller, analysis_id: UUID, request_id: str) -> retention.Receipt:
    """Condemn it, unless that was done before: then the receipt says so."""
    with suppress(NotFound), transaction() as session:
        retention.condemn_analysis(
            session, analysis_id, actor=caller.key_id, owner=caller.owner, request_id=request_id
        )
    return _receipt(caller, analysis_id)


def _carry_out(erasure_id: UUID) -> None:
    try:
        retention.carry_out(erasure_id)
    except StorageError:
        log.warning("erasing is left to the dispatcher", action="erasure_left", exc_info=True)


def _receipt(caller: Caller, analysis_id: UUID) -> retention.Receipt:
    with read() as session:
        return retention.find_receipt(session, caller.owner, analysis_id)


def _shown(found: retention.Receipt) -> Response:
    body = erasure_schemas.receipt(found).model_dump(mode="json")
    if found.complete:
        return JSONResponse(body, status.HTTP_200_OK, PRIVATE)
    where = {"Location": erasure_schemas.location(found.analysis_id), "Retry-After": str(LOOK_AGAIN)}
    return JSONResponse(body, status.HTTP_202_ACCEPTED, PRIVATE | where)


@router.get(
    ERASURES + "/{analysis_id}",
    responses={200: {"headers": {"Retry-After": RETRY_AFTER}}, **problems(401, 403, 404, 422)},
)
def get_erasure(analysis_id: UUID, caller: Reader, response: Response) -> Receipt:
    """The receipt of an erased analysis, by the analysis's id. It is kept for good."""
    found = _receipt(caller, analysis_id)
    response.headers.update(PRIVATE)
    if not found.complete:
        response.headers["Retry-After"] = str(LOOK_AGAIN)
    return erasure_schemas.receipt(found)


@router.post(
    envelopes.ANALYSES + "/{analysis_id}/hold",
    response_model=Analysis,
    responses={200: {"headers": {"ETag": ETAG}}, **problems(400, 401, 403, 404, 408, 409, 413, 415, 422)},
    openapi_extra=json_body(NewHold, required=True),
)
async def hold_analysis(request: Request, analysis_id: UUID, caller: Admin) -> Response:
    """Put an analysis under a legal hold: neither retention nor a deletion takes anything of it.

    Holding it again with another reason changes the reason. While its file is being erased it is refused:
    409 `erasure_in_progress`; what is left a moment later can be held.
    """
    idle = settings().limits.upload_idle.total_seconds()
    asked = strictly(NewHold, await read_object(request, idle=idle))
    return await run_in_threadpool(_hold, caller, analysis_id, asked.reason, request.state.request_id)


def _hold(caller: Caller, analysis_id: UUID, reason: str, request_id: str) -> Response:
    with transaction() as session:
        row = retention.hold(session, caller, analysis_id, reason=reason, request_id=request_id)
        return _envelope(session, row)


@router.delete(
    envelopes.ANALYSES + "/{analysis_id}/hold",
    response_model=Analysis,
    responses={200: {"headers": {"ETag": ETAG}}, **problems(401, 403, 404, 422)},
)
def release_analysis(request: Request, analysis_id: UUID, caller: Admin) -> Response:
    """Release a legal hold; what fell due meanwhile is erased soon after. Again, it changes nothing."""
    with transaction() as session:
        row = retention.release(session, caller, analysis_id, request_id=request.state.request_id)
        return _envelope(session, row)


def _envelope(session: Any, row: models.Analysis) -> Response:
    shown = envelopes.analysis(row, listing.stages(session, row.id)).model_dump(mode="json", by_alias=True)
    headers = {"ETag": envelopes.etag(row), "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    return JSONResponse(shown, status.HTTP_200_OK, headers)
