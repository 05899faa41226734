"""What an analysis saw: its faces, its stills, where the model looked, the spectrogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Response
from sqlalchemy.orm import Session

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
def get_track_picture(analysis_id: UUID, track: Number, caller: Reader) -> Response:
    """A face at its sharpest."""
    return _picture(caller, analysis_id, lambda session, row: kept.thumbnail_of(session, row, track))


@router.get("/{analysis_id}/frames/{interval}.jpg", response_class=Response, responses=JPEG)
def get_frame(analysis_id: UUID, interval: Number, caller: Reader) -> Response:
    """The frame nearest to the middle of an interval; its longer side is at most 640 pixels."""
    return _picture(caller, analysis_id, lambda session, row: kept.still_of(session, row, interval))


@router.get("/{analysis_id}/intervals/{interval}/faces/{number}.jpg", response_class=Response, responses=JPEG)
def get_face(analysis_id: UUID, interval: Number, number: Number, caller: Reader) -> Response:
    """A suspicious face as the detector got it: number 0 is the first of the interval's `pictures`."""
    return _picture(
        caller, analysis_id, lambda session, row: kept.face_of(session, row, interval, number).crop
    )


@router.get(
    "/{analysis_id}/intervals/{interval}/heatmaps/{number}.jpg", response_class=Response, responses=JPEG
)
def get_heatmap(analysis_id: UUID, interval: Number, number: Number, caller: Reader) -> Response:
    """The same face under a heatmap: where the model looked."""
    return _picture(caller, analysis_id, lambda session, row: kept.heatmap_of(session, row, interval, number))


@router.get("/{analysis_id}/spectrogram.png", response_class=Response, responses=PNG)
def get_spectrogram(analysis_id: UUID, caller: Reader) -> Response:
    """The whole sound as a picture."""
    return _picture(caller, analysis_id, lambda _session, row: kept.spectrogram_of(row))


def _picture(caller: Caller, analysis_id: UUID, key: Callable[[Session, models.Analysis], str]) -> Response:
    """Raises NotFound, PictureErased, StorageError."""
    with read() as session:
        found = key(session, analyses.find(session, caller.owner, analysis_id))
    return pictures.answer(found)
