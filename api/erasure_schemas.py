"""The JSON of erasures, legal holds and the audit log, and from rows to it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import MAX_CURSOR, Moment, Strict
from core import models, retention
from core.audit import Action

ERASURES: Final = "/v1/erasures"
AUDIT: Final = "/v1/audit"
#: A reason is a sentence and a file number, not a brief.
MAX_REASON: Final = 1000
#: With something to read in it, and without NUL, which PostgreSQL does not take.
SENTENCE: Final = r"^[^\x00]*[^\s\x00][^\x00]*$"


class NewHold(BaseModel):
    """Why an analysis is to be kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON, pattern=SENTENCE)] = Field(
        description="For the audit log; no answer of the API shows it elsewhere."
    )


class Outcome(StrEnum):
    """What became of the file."""

    ERASED = "erased"
    PENDING = "pending"  #: it is going
    KEPT = "kept"  #: another analysis of yours has the same bytes and still needs them
    GONE = "gone"  #: it had been erased before


class ErasedMedia(BaseModel):
    """The file of an erased analysis."""

    sha256: str = Field(description="SHA-256 of the bytes that were received, in hexadecimal.")
    size_bytes: int
    outcome: Outcome = Field(
        description="erased; pending: it is going; kept: another analysis of yours has the same bytes and "
        "still needs them; gone: it had been erased before."
    )


class Receipt(BaseModel):
    """What was erased. It claims nothing that the storage has not confirmed."""

    id: UUID
    analysis_id: UUID
    complete: bool = Field(
        description="False: rows are gone, objects are going; a worker is stopping, or the storage is away."
    )
    requested_at: datetime
    requested_by: str = Field(description="Public prefix of the API key, or `dispatcher`: its time was over.")
    completed_at: datetime | None = Field(description="Since then nothing of it is listed in the storage.")
    media: ErasedMedia | None = Field(description="Null when there was no file yet.")
    rows: dict[str, int] = Field(description="Rows deleted in the database, by table.")
    objects: int | None = Field(
        description="Deleted from the storage, the file included; null until complete."
    )
    bytes: int | None = Field(description="Of these objects; null until complete.")


class Entry(BaseModel):
    """One line of the audit log."""

    id: UUID
    at: datetime
    actor: str = Field(description="Public prefix of an API key, `command line`, `dispatcher` or `worker`.")
    action: str = Field(description="What was done; stable, and there may be new ones.")
    subject: str = Field(description="Id of what it was done to.")
    detail: dict[str, Any]
    request_id: str | None = Field(description="Finds the request in the server's log.")


class AuditQuery(Strict):
    """Which entries, and which page of them."""

    action: Action | None = None
    subject: str | None = Field(default=None, min_length=1, max_length=255, pattern=r"^[!-~]+$")
    after: Moment | None = Field(default=None, description="At or after; with a time zone.")
    before: Moment | None = Field(default=None, description="Before; with a time zone.")
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="`next_cursor` of a page.")
    limit: int = Field(default=50, ge=1, le=200)


def receipt(of: retention.Receipt) -> Receipt:
    """The receipt as the API shows it."""
    return Receipt(media=of.media and _media(of.media, complete=of.complete), **_members(of))


def _members(of: retention.Receipt) -> dict[str, Any]:
    return of.model_dump(include=set(Receipt.model_fields) - {"media"})


def _media(of: retention.MediaFate, *, complete: bool) -> ErasedMedia:
    going = of.fate is retention.Fate.ERASED and not complete
    outcome = Outcome.PENDING if going else Outcome(of.fate.value)
    return ErasedMedia(sha256=of.sha256, size_bytes=of.size_bytes, outcome=outcome)


def entry(row: models.AuditEntry) -> Entry:
    """One line of the log."""
    return Entry.model_validate({name: getattr(row, name) for name in Entry.model_fields})


def location(analysis_id: UUID) -> str:
    """Path of a receipt."""
    return f"{ERASURES}/{analysis_id}"
