"""A finished analysis in database and storage, with a report and every picture there can be."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from api.page.material import Material
from core import db, models
from core.storage import storage
from tests.api.page import materials

#: What `exhibit` gives the parts that have a number in their path.
NUMBERS = {"track": "0", "interval": "2", "number": "0"}


def exhibit(analysis_id: UUID | str) -> None:
    """Give an accepted analysis its evidence, as the workers would have."""
    found = materials.accused()
    with db.transaction() as session:
        row = session.get_one(models.Analysis, UUID(str(analysis_id)))
        row.report, row.verdict, row.confidence = dict(found.report), found.report["verdict"], 90.0
        row.artifacts = {"spectrogram": key_of(row.id, "sound")}
        row.version += 1
        session.add_all(_interval(found, one, row.id) for one in found.intervals)
        session.add_all(
            models.Track(
                analysis_id=row.id,
                track=face.id,
                start=face.start,
                end=face.end,
                frames=face.frames,
                thumbnail_key=key_of(row.id, face.thumbnail) if face.thumbnail else None,
                score=face.score,
                lips=face.lips.model_dump(mode="json") if face.lips else None,
            )
            for face in found.faces
        )
    for name, content in found.pictures.items():
        put(key_of(analysis_id, name), content)


def key_of(analysis_id: UUID | str, name: str) -> str:
    """Where a picture of the analysis lies."""
    return f"analyses/{analysis_id}/{name}"


def put(key: str, content: bytes) -> None:
    """An object of these bytes."""
    upload = storage().open_upload(key)
    upload.write(content)
    upload.complete()


def _interval(found: Material, one: Any, analysis_id: UUID) -> models.Interval:
    video = one.video.model_dump(mode="json")
    for picture in video["pictures"]:
        picture["crop"], picture["heatmap"] = (
            key_of(analysis_id, picture[name]) for name in ("crop", "heatmap")
        )
    return models.Interval(
        analysis_id=analysis_id,
        index=one.index,
        start=one.start,
        end=one.end,
        video_score=one.video.score,
        video_reason=one.video.reason.value if one.video.reason else None,
        audio_score=one.audio.score,
        audio_reason=one.audio.reason.value if one.audio.reason else None,
        frames=[frame.model_dump(mode="json") for frame in found.frames[one.index]],
        still_key=key_of(analysis_id, found.stills[one.index].key),
        still_frame=found.stills[one.index].frame,
        video=video,
        audio=one.audio.model_dump(mode="json"),
    )
