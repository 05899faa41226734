"""Objects that no row names: what a process left that was killed between the storage and the database.

To be asked only of objects older than any work takes: a younger one may be on its way into a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from core.analyses import FILES, FOLDERS
from core.domain import Stage
from core.models import Analysis, Media, Step, Upload


def unnamed(session: Session, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that nothing refers to; what is not named as we name things is left alone.

    Best asked in one read transaction, which sees an upload before or after it becomes media.
    """
    files = [key for key in keys if key.startswith(FILES)]
    folders = {key: found for key in keys if (found := _analysis_of(key)) is not None}
    named = _named_files(session, files)
    rows = _analyses(session, set(folders.values()))
    looked = _looked_at(session, set(folders.values()))
    return [key for key in files if key not in named] + [
        key
        for key, identity in folders.items()
        if not _is_kept(key, rows.get(identity), looked.get(identity, ()))
    ]


def _analysis_of(key: str) -> UUID | None:
    """Of a key below the folder of an analysis."""
    if not key.startswith(FOLDERS):
        return None
    name = key.removeprefix(FOLDERS).partition("/")[0]
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None


def _named_files(session: Session, keys: Sequence[str]) -> set[str]:
    media = select(Media.object_key).where(Media.object_key.in_(keys), Media.erased_at.is_(None))
    arriving = Upload.status.in_(["open", "completed"])  # once used, the media row is what counts
    uploads = select(Upload.object_key).where(Upload.object_key.in_(keys), arriving)
    return {*session.scalars(media), *session.scalars(uploads)}


def _analyses(session: Session, ids: Iterable[UUID]) -> dict[UUID, Any]:
    """What decides about the folder of each; `scratch` is where the extraction that counts worked."""
    query = (
        select(
            Analysis.id,
            Analysis.completed_at,
            Analysis.held_at,
            Analysis.media_erased_at,
            Step.payload["scratch"].astext.label("scratch"),
        )
        .join(Step, and_(Step.analysis_id == Analysis.id, Step.stage == Stage.FUSE.value), isouter=True)
        .where(Analysis.id.in_(ids))
    )
    return {row.id: row for row in session.execute(query)}


def _looked_at(session: Session, ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """Prefixes under which the video steps that count stored what they found suspicious."""
    pictures = Step.detail["pictures"].astext
    found: dict[UUID, list[str]] = {}
    query = select(Step.analysis_id, pictures).where(Step.analysis_id.in_(ids), pictures.is_not(None))
    for identity, prefix in session.execute(query).all():
        found.setdefault(identity, []).append(prefix)
    return found


def _is_kept(key: str, row: Any, looked: Iterable[str]) -> bool:
    """Of a living or held analysis everything; of one that has ended the pictures that its rows name."""
    if row is None:
        return False
    if row.completed_at is None or row.held_at is not None:
        return True
    if row.media_erased_at is not None or row.scratch is None:
        return False
    return key.startswith((row.scratch.replace("/work-", "/pictures-"), *looked))
