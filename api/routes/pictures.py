"""What an analysis saw: its faces, its stills, where the model looked, the spectrogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api import envelopes, pictures
from api.dependencies import Reader
from api.openapi import problems
from api.schemas import Tracks
from core import analyses, models
from core import pictures as kept
from core.db import read
from core.keys import Caller

router = APIRouter(prefix=envelopes.ANALYSES, tags=["pictures"])
#: What a database column of ours can hold.
Number = Annotated[int, Path(ge=0, lt=2**31)]


def _serves(media_type: str) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a picture."""
    shown = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"content": shown, "description": "The picture."}, **problems(401, 403, 404, 410, 422)}


JPEG: Final = _serves("image/jpeg")
PNG: Final = _serves("image/png")


@router.get("/{analysis_id}/tracks", responses=problems(401, 403, 404, 422))
def list_tracks(analysis_id: UUID, caller: Reader) -> Tracks:
    """Every face that was followed through the video, with its score and how lips and voice go together."""
    with read() as session:
        row = analyses.find(session, caller.owner, analysis_id)
        found = kept.tracks(session, row.id)
        return Tracks(items=[envelopes.track(row, track) for track in found])


@router.get("/{analysis_id}/tracks/{track}.jpg", response_class=Response, responses=JPEG)
async def get_track_picture(request: Request, analysis_id: UUID, track: Number, caller: Reader) -> Response:
    """A face at its sharpest."""
    return await _picture(
        request, caller, analysis_id, lambda session, row: kept.thumbnail_of(session, row, track)
    )


@router.get("/{analysis_id}/frames/{interval}.jpg", response_class=Response, responses=JPEG)
async def get_frame(request: Request, analysis_id: UUID, interval: Number, caller: Reader) -> Response:
    """The frame nearest to the middle of an interval; its longer side is at most 640 pixels."""
    return await _picture(
        request, caller, analysis_id, lambda session, row: kept.still_of(session, row, interval)
    )


@router.get("/{analysis_id}/intervals/{interval}/faces/{number}.jpg", response_class=Response, responses=JPEG)
async def get_face(
    request: Request, analysis_id: UUID, interval: Number, number: Number, caller: Reader
) -> Response:
    """A suspicious face as the detector got it: number 0 is the first of the interval's `pictures`."""
    return await _picture(
        request, caller, analysis_id, lambda session, row: kept.face_of(session, row, interval, number).crop
    )


@router.get(
    "/{analysis_id}/intervals/{interval}/heatmaps/{number}.jpg", response_class=Response, responses=JPEG
)
async def get_heatmap(
    request: Request, analysis_id: UUID, interval: Number, number: Number, caller: Reader
) -> Response:
    """The same face under a heatmap: where the model looked."""
    return await _picture(
        request, caller, analysis_id, lambda session, row: kept.heatmap_of(session, row, interval, number)
    )


@router.get("/{analysis_id}/spectrogram.png", response_class=Response, responses=PNG)
async def get_spectrogram(request: Request, analysis_id: UUID, caller: Reader) -> Response:
    """The whole sound as a picture."""
    return await _picture(request, caller, analysis_id, lambda _session, row: kept.spectrogram_of(row))


async def _picture(
    request: Request, caller: Caller, analysis_id: UUID, key: Callable[[Session, models.Analysis], str]
) -> Response:
    """In the threads of pictures: a storage that hangs holds up nothing else.

    Raises NotFound, PictureErased, StorageError.
    """
    found = await run_in_threadpool(_key, caller, analysis_id, key)
    return await to_thread.run_sync(pictures.answer, found, limiter=request.app.state.picture_threads)


def _key(caller: Caller, analysis_id: UUID, key: Callable[[Session, models.Analysis], str]) -> str:
    with read() as session:
        return key(session, analyses.find(session, caller.owner, analysis_id))
