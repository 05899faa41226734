"""The JSON of uploads in parts, and from rows to it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$")]


class NewUpload(BaseModel):
    """What is going to be sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    size_bytes: int = Field(ge=1, description="Of the whole file; the server has a limit: `file_too_large`.")
    filename: str | None = Field(default=None, max_length=1024, description="For display only.")
    sha256: Sha256 | None = Field(default=None, description="Checked on completion, when it is given.")


class SentPart(BaseModel):
    """A part as its sender knows it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    number: int = Field(ge=1, le=10_000)
    etag: str = Field(max_length=128, description="The header of the storage's answer to the PUT.")


class Completion(BaseModel):
    """Nothing need be said: the server asks the storage itself. Parts that are named are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    parts: list[SentPart] = Field(default=[], max_length=256)


class UploadState(StrEnum):
    """Where an upload stands."""

    OPEN = "open"
    COMPLETED = "completed"
    USED = "used"
    EXPIRED = "expired"


class UploadPart(BaseModel):
    """One part of the file."""

    number: int = Field(description="From 1.")
    size_bytes: int = Field(description="The storage takes exactly as many.")
    received: bool = Field(description="The storage has it. It may be sent again all the same.")
    url: str | None = Field(
        description="PUT the part's bytes here, without a key of this server; a secret until it expires. "
        "Null when the part is there, and beyond the first 256 missing ones: ask again after these."
    )


class UploadLinks(BaseModel):
    """Where to go from here."""

    self: str
    complete: str


class Upload(BaseModel):
    """A file that goes straight to the storage."""

    id: UUID = Field(description="The `upload_id` of a submission.")
    status: UploadState
    filename: str | None
    size_bytes: int
    part_bytes: int = Field(description="Size of every part but the last.")
    sha256: str | None = Field(description="As announced; once completed, as the server has measured it.")
    parts: list[UploadPart] = Field(description="All of them while the upload is open, else none.")
    urls_expire_at: datetime | None = Field(description="Ask again then; null without URLs.")
    created_at: datetime
    completed_at: datetime | None
    expires_at: datetime = Field(description="Dropped then, unless an analysis has used it.")
    links: UploadLinks
