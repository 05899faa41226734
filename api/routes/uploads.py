"""A file straight to the storage: begin, look (again), complete, abort.

The storage may be slow or away, so whatever asks it runs in the threads of uploads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Request, Response, status
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from api import idempotency, presigned
from api.body import read_object
from api.dependencies import Writer
from api.form import strictly
from api.openapi import REPLAYED, begun_upload, completion, problems
from api.presigned import LOCATION, UPLOADS
from api.upload_schemas import Completion, NewUpload, Upload
from core import failpoints, models, uploads
from core.config import Limits, settings
from core.db import read, transaction
from core.errors import Conflict, InvalidOption, NotFound, PayloadTooLarge
from core.filenames import display_name
from core.idempotency import Answer, fingerprint, recall, settle
from core.keys import Caller
from core.uploads import UploadStatus

router = APIRouter(prefix=UPLOADS, tags=["uploads"])
Result = TypeVar("Result")
OPERATION: Final = "create_upload"


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=Upload,
    responses={
        201: {"headers": {"Location": LOCATION, idempotency.REPLAYED: REPLAYED}},
        **problems(400, 401, 403, 408, 409, 413, 415, 422),
    },
    openapi_extra=begun_upload(),
)
async def create_upload(request: Request, caller: Writer) -> Response:
    """Begin a file that is sent in parts, straight to the storage: PUT each part to its `url`.

    With an `Idempotency-Key`, sending it again gives the same upload as it is now, with new URLs.
    """
    async with idempotency.held(request, caller) as held:
        wanted = _wanted(await read_object(request, idle=_idle()), settings().limits)
        answer = await _in_thread(request, lambda: _create(caller, wanted, held))
    return JSONResponse(answer.body, answer.status, answer.headers)


def _idle() -> float:
    return settings().limits.upload_idle.total_seconds()


async def _in_thread(request: Request, work: Callable[[], Result]) -> Result:
    return await anyio.to_thread.run_sync(work, limiter=request.app.state.upload_threads)


def _wanted(members: dict[str, object], limits: Limits) -> uploads.Wanted:
    """What is announced, within the server's limits. Raises InvalidOption or PayloadTooLarge."""
    asked = strictly(NewUpload, members)
    if asked.size_bytes > limits.max_upload_bytes:
        raise PayloadTooLarge(limit_bytes=limits.max_upload_bytes)
    if asked.size_bytes < limits.min_upload_bytes:
        limit, field = limits.min_upload_bytes, "size_bytes"
        raise InvalidOption("the file is too small", code="file_too_small", field=field, limit_bytes=limit)
    return uploads.Wanted(
        size_bytes=asked.size_bytes,
        filename=display_name(asked.filename or ""),
        sha256=asked.sha256 and asked.sha256.lower(),
    )


def _create(caller: Caller, wanted: uploads.Wanted, held: idempotency.Held | None) -> Answer:
    """Begin it in the storage, then in the database; a storage's leftover is swept, a row's is not.

    What is kept for a replay is the upload's id: URLs would expire, and open the storage to whoever
    reads the database.
    """
    payload = fingerprint(OPERATION, wanted.model_dump())
    if held is not None and held.answered:
        return _replayed(caller, held, payload)
    with read() as session:
        uploads.check_room(session, caller.owner)
    begun, committing = uploads.draft(wanted), False
    failpoints.reach(failpoints.Point.UPLOAD_BEGUN)
    try:
        with transaction() as session:
            row = uploads.record(session, caller.owner, begun)
            if held is not None:
                kept = Answer(status=status.HTTP_201_CREATED, headers={}, body={"id": str(row.id)})
                settle(session, held.claim, payload=payload, answer=kept)
            committing = True
    except BaseException:  # a commit that failed may have happened: then the row names these parts
        if not committing:
            uploads.discard(begun)
        raise
    return _answer(presigned.shown(row))


def _replayed(caller: Caller, held: idempotency.Held, payload: str) -> Answer:
    with read() as session:
        upload_id = UUID(recall(session, held.claim, payload=payload).body["id"])
        try:
            row = _present(session, caller, upload_id)
        except NotFound as error:  # aborted, or erased with its analysis
            why = "the upload of this Idempotency-Key is no more; a new one needs a new key"
            raise Conflict(why, code="upload_aborted") from error
    return _answer(presigned.shown(row), {idempotency.REPLAYED: "true"})


def _present(session: Session, caller: Caller, upload_id: UUID) -> models.Upload:
    """The upload, unless it was aborted. Raises NotFound."""
    row = uploads.find(session, caller.owner, upload_id)
    if row.status == UploadStatus.ABORTED:
        raise NotFound("this upload was aborted", code="upload_aborted")
    return row


def _answer(found: Upload, more: dict[str, str] | None = None) -> Answer:
    return Answer(
        status=status.HTTP_201_CREATED,
        headers={"Location": found.links.self, "Cache-Control": "private, no-store", **(more or {})},
        body=found.model_dump(mode="json"),
    )


@router.get("/{upload_id}", responses=problems(401, 403, 404, 422))
async def get_upload(upload_id: UUID, caller: Writer, request: Request, response: Response) -> Upload:
    """Which parts the storage has, asked now, and new URLs for the others: how to go on after a break."""
    response.headers["Cache-Control"] = "private, no-store"

    def look() -> Upload:
        with read() as session:
            row = _present(session, caller, upload_id)
        return presigned.shown(row)

    return await _in_thread(request, look)


@router.post(
    "/{upload_id}/complete",
    response_model=Upload,
    responses=problems(400, 401, 403, 404, 408, 409, 413, 415, 422),
    openapi_extra=completion(),
)
async def complete_upload(upload_id: UUID, caller: Writer, request: Request, response: Response) -> Upload:
    """Join the parts, read the file through and check it; it takes seconds for a large one.

    Completing it again gives the same answer, also when the first one was lost on the way. While
    another call completes it: 409 `completion_in_progress`, with `Retry-After`.
    """
    asked = strictly(Completion, await read_object(request, idle=_idle(), empty=True))
    etags = [(part.number, part.etag) for part in asked.parts]
    response.headers["Cache-Control"] = "private, no-store"
    return await _in_thread(
        request, lambda: presigned.shown(uploads.complete(caller.owner, upload_id, etags=etags))
    )


@router.delete(
    "/{upload_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(401, 403, 404, 409, 422)
)
async def abort_upload(upload_id: UUID, caller: Writer, request: Request) -> None:
    """Give it up and drop what has arrived. Aborting again changes nothing; a used one is the analysis's."""
    await _in_thread(request, lambda: uploads.abort(caller.owner, upload_id))
