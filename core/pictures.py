"""The pictures of an analysis by their object keys: stills, faces, heatmaps, thumbnails, spectrogram.

Rows keep naming what retention has erased; a reader is told which it is: never made, or gone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NoReturn
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import NotFound, PictureErased
from core.evidence import Frame, KeyPicture
from core.models import Analysis, Interval, Track

#: Its name in `analyses.artifacts`.
SPECTROGRAM: Final = "spectrogram"


def tracks(session: Session, analysis_id: UUID) -> list[Track]:
    """Every face that was followed through the video, in the order of their ids."""
    return list(session.scalars(select(Track).where(Track.analysis_id == analysis_id).order_by(Track.track)))


def stills(session: Session, analysis_id: UUID) -> dict[int, tuple[str, int | None]]:
    """By interval: object key of its picture, and the number of the frame that it is."""
    rows = session.execute(
        select(Interval.index, Interval.still_key, Interval.still_frame).where(
            Interval.analysis_id == analysis_id, Interval.still_key.is_not(None)
        )
    )
    return {index: (key, frame) for index, key, frame in rows.all() if key is not None}


def frames(session: Session, analysis_id: UUID, indices: Collection[int]) -> dict[int, tuple[Frame, ...]]:
    """The sampled frames of these intervals."""
    rows = session.execute(
        select(Interval.index, Interval.frames).where(
            Interval.analysis_id == analysis_id, Interval.index.in_(indices)
        )
    )
    return {index: tuple(map(Frame.model_validate, found)) for index, found in rows.all()}


def still_of(session: Session, analysis: Analysis, index: int) -> str:
    """Object key of an interval's picture. Raises NotFound, PictureErased."""
    row = session.get(Interval, (analysis.id, index))
    if row is None:
        raise NotFound("there is no such interval")
    return row.still_key or _absent(analysis, "no picture was kept of this interval")


def face_of(session: Session, analysis: Analysis, index: int, number: int) -> KeyPicture:
    """A suspicious face of an interval, from 0. Raises NotFound."""
    row = session.get(Interval, (analysis.id, index))
    found = (row.video or {}).get("pictures", []) if row is not None else []
    if number >= len(found):
        raise NotFound("there is no such picture in this interval")
    return KeyPicture.model_validate(found[number])


def heatmap_of(session: Session, analysis: Analysis, index: int, number: int) -> str:
    """Object key of the heatmap over such a face. Raises NotFound, PictureErased."""
    found = face_of(session, analysis, index, number)
    return found.heatmap or _absent(analysis, "no heatmap was made of this face")


def thumbnail_of(session: Session, analysis: Analysis, track: int) -> str:
    """Object key of a face at its sharpest. Raises NotFound, PictureErased."""
    row = session.get(Track, (analysis.id, track))
    if row is None:
        raise NotFound("there is no such track")
    return row.thumbnail_key or _absent(analysis, "no picture was kept of this face")


def spectrogram_of(analysis: Analysis) -> str:
    """Object key of the picture of the whole sound. Raises NotFound, PictureErased."""
    found: str | None = analysis.artifacts.get(SPECTROGRAM)
    return found or _absent(analysis, "there is no spectrogram of it")


def _absent(analysis: Analysis, words: str) -> NoReturn:
    if analysis.media_erased_at is not None:
        raise PictureErased
    raise NotFound(words)
