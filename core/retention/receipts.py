"""Receipts: what was erased, when, and on whose word. A pending one claims nothing but that it will be."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import audit
from core.domain import Frozen
from core.errors import NotFound
from core.models import Erasure


class Scope(StrEnum):
    """How much goes."""

    MEDIA = "media"  #: the file and the pictures; the report stays
    ANALYSIS = "analysis"  #: everything


class Fate(StrEnum):
    """What becomes of the file."""

    ERASED = "erased"  #: it goes with this erasure
    KEPT = "kept"  #: another analysis of the owner's has the same bytes and still needs them
    GONE = "gone"  #: it had been erased before


class MediaFate(Frozen):
    """The file and what becomes of it."""

    sha256: str
    size_bytes: int
    fate: Fate


class Receipt(Frozen):
    """What one erasure took."""

    id: UUID
    analysis_id: UUID
    scope: Scope
    complete: bool
    requested_at: datetime
    requested_by: str  #: public prefix of the key, or as in the audit log
    completed_at: datetime | None = None  #: the storage has said since then that nothing is left
    media: MediaFate | None  #: None: there never was a file
    rows: dict[str, int]  #: by table
    objects: int | None = None  #: None until it is complete
    bytes: int | None = None  #: of those objects


def pending(erasure: Erasure) -> Receipt:
    """The receipt of what is still to be carried out."""
    return Receipt(
        id=erasure.id,
        analysis_id=erasure.analysis_id,
        scope=Scope(erasure.scope),
        complete=False,
        requested_at=erasure.requested_at,
        requested_by=erasure.actor,
        media=MediaFate.model_validate(erasure.media) if erasure.media is not None else None,
        rows=erasure.rows,
    )


def completed(erasure: Erasure, at: datetime) -> Receipt:
    """The receipt of what has just been carried out."""
    counted = {"objects": len(erasure.found), "bytes": sum(erasure.found.values())}
    return pending(erasure).model_copy(update={"complete": True, "completed_at": at, **counted})


def find_receipt(session: Session, owner: str, analysis_id: UUID) -> Receipt:
    """The receipt of the owner's erased analysis, pending or not. Raises NotFound, also for others."""
    erasure = session.scalar(
        select(Erasure).where(
            Erasure.analysis_id == analysis_id,
            Erasure.scope == Scope.ANALYSIS.value,
            Erasure.owner == owner,
        )
    )
    if erasure is not None:
        return pending(erasure)
    # The row goes in the transaction that writes the entry: not there before, it is here now.
    entry = audit.find(session, action=audit.Action.ANALYSIS_ERASED, subject=analysis_id)
    if entry is None or entry.owner != owner:
        raise NotFound("there is no such analysis, or it is not yours")
    return Receipt.model_validate(entry.detail)
