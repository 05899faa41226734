"""Submit a file; look at one analysis, its intervals, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response, status
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import envelopes, idempotency, upload
from api.dependencies import Reader, Writer
from api.openapi import ETAG, REPLAYED, RETRY_AFTER, problems, submission
from api.schemas import Analysis, AnalysisQuery, Interval, IntervalQuery, Page, Summary
from api.sources import EarlierUpload, Source
from core import analyses, failpoints, listing, logging, uploads
from core.analyses import RemoteFile, StoredUpload
from core.config import settings
from core.db import read, transaction
from core.errors import StorageError
from core.idempotency import Answer, settle
from core.keys import Caller
from core.listing import Filters
from core.storage import storage

log = logging.get(__name__)
router = APIRouter(prefix=envelopes.ANALYSES, tags=["analyses"])
LOCATION = {"schema": {"type": "string"}, "description": "Path of the analysis."}
#: How every acceptance of work is described.
ACCEPTED: dict[str, Any] = {
    "headers": {
        "Location": LOCATION,
        "Retry-After": RETRY_AFTER,
        "ETag": ETAG,
        idempotency.REPLAYED: REPLAYED,
    }
}


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Analysis,
    responses={
        202: ACCEPTED,
        **problems(400, 401, 403, 404, 408, 409, 413, 415, 422),
    },
    openapi_extra=submission(),
)
async def submit_analysis(request: Request, caller: Writer) -> Response:
    """Send a file, or name one: as a form, or without a file of its own as a JSON object.

    The answer comes when the file is stored (a `source_url` is fetched later) and the work is owed, not
    when it is done.

    With an `Idempotency-Key`, sending it again gives the first answer and never a second analysis.
    """
    async with idempotency.held(request, caller) as held:
        threads = request.app.state.upload_threads
        submitted = await upload.receive(request, settings().limits, storage, threads)
        answer = await run_in_threadpool(_accept, caller, submitted, held)
    return JSONResponse(answer.body, answer.status, answer.headers)


def _accept(caller: Caller, submitted: upload.Submitted, held: idempotency.Held | None) -> Answer:
    """Owe the work in one transaction, then drop the bytes if the owner had them already."""
    sent = submitted.source if isinstance(submitted.source, StoredUpload) else None
    if held is not None and held.answered:
        _discard(sent)
        return idempotency.replay(held.claim, submitted)
    failpoints.reach(failpoints.Point.API_STORED)
    committing = False
    try:
        with transaction() as session:
            accepted = analyses.submit(
                session,
                caller=caller,
                source=_taken(session, caller, submitted.source),
                options=submitted.options,
                terms=submitted.terms,
                metadata=submitted.metadata,
            )
            row = accepted.analysis
            if isinstance(submitted.source, EarlierUpload):
                uploads.attribute(session, submitted.source.upload_id, row.id)
            answer = acceptance(row, listing.stages(session, row.id))
            if held is not None:
                settle(
                    session,
                    held.claim,
                    payload=idempotency.fingerprint(submitted),
                    answer=answer,
                    analysis_id=row.id,
                )
            committing = True
    except BaseException:
        # A commit that failed may have happened: those bytes may be owned, so they stay.
        if not committing:
            _discard(sent)
        raise
    failpoints.reach(failpoints.Point.API_ACCEPTED)
    _discard(accepted.surplus_key)
    return answer


def _taken(session: Session, caller: Caller, source: Source) -> StoredUpload | RemoteFile:
    """The file; an earlier upload is nobody else's from here on."""
    return (
        uploads.take(session, caller.owner, source.upload_id) if isinstance(source, EarlierUpload) else source
    )


def acceptance(row: Any, stages: Sequence[listing.StageProgress]) -> Answer:
    """What the sender of a new analysis is told."""
    return Answer(
        status=status.HTTP_202_ACCEPTED,
        headers=_headers(row) | {"Location": envelopes.location(row)},
        body=envelopes.analysis(row, stages).model_dump(mode="json", by_alias=True),
    )


def _discard(unowned: StoredUpload | str | None) -> None:
    """Delete an object nobody owns; a storage that is away must not undo what the database says."""
    key = unowned.object_key if isinstance(unowned, StoredUpload) else unowned
    if key is None:
        return
    try:
        storage().delete(key)
    except StorageError:
        log.warning("an object without an owner stays in the storage", action="discard_failed", key=key)


def _headers(row: Any) -> dict[str, str]:
    wait = envelopes.retry_after(row, datetime.now(UTC))
    return {
        "ETag": envelopes.etag(row),
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
        **({"Retry-After": str(wait)} if wait is not None else {}),
    }


@router.get("", responses=problems(400, 401, 403, 422))
def list_analyses(caller: Reader, query: Annotated[AnalysisQuery, Query()]) -> Page[Summary]:
    """Your analyses, the newest first."""
    filters = Filters(**query.model_dump(exclude={"cursor", "limit"}))
    with read() as session:
        page = listing.page(session, caller.owner, filters=filters, cursor=query.cursor, limit=query.limit)
        return Page(items=[envelopes.summary(row) for row in page.items], next_cursor=page.next_cursor)


@router.get(
    "/{analysis_id}",
    response_model=Analysis,
    responses={
        200: {"headers": {"ETag": ETAG, "Retry-After": RETRY_AFTER}},
        304: {"description": "It is still the version named in If-None-Match."},
        **problems(401, 403, 404, 422),
    },
)
def get_analysis(
    analysis_id: UUID,
    caller: Reader,
    response: Response,
    if_none_match: Annotated[str | None, Header(description="ETag of the answer you have.")] = None,
) -> Any:
    """One analysis. `Retry-After` says when to look again; without it, nothing more will change."""
    with read() as session:
        row = analyses.find(session, caller.owner, analysis_id)
        headers = _headers(row)
        if envelopes.matches(if_none_match, headers["ETag"]):
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
        response.headers.update(headers)
        return envelopes.analysis(row, listing.stages(session, row.id))


@router.post(
    "/{analysis_id}/cancel",
    responses={200: {"headers": {"ETag": ETAG}}, **problems(401, 403, 404, 409, 422)},
)
def cancel_analysis(analysis_id: UUID, caller: Writer, response: Response) -> Analysis:
    """End an analysis without a report; whoever works on it stops within seconds.

    Canceling it again changes nothing; one that has completed or failed stays as it is: 409.
    """
    with transaction() as session:
        row = analyses.cancel(session, caller.owner, analysis_id)
        response.headers.update(_headers(row))
        return envelopes.analysis(row, listing.stages(session, row.id))


@router.get("/{analysis_id}/intervals", responses=problems(400, 401, 403, 404, 422))
def list_intervals(
    analysis_id: UUID, caller: Reader, query: Annotated[IntervalQuery, Query()]
) -> Page[Interval]:
    """The timeline in order. There are no intervals before extraction has run."""
    with read() as session:
        row = analyses.find(session, caller.owner, analysis_id)
        page = listing.interval_page(session, row, cursor=query.cursor, limit=query.limit)
        return Page(
            items=[envelopes.interval(row, item) for item in page.items], next_cursor=page.next_cursor
        )
