"""From an upload's row to what its sender sees: what the storage has, and addresses for the rest.

An address is a key to one part of one file. It goes into the answer, and nowhere else.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from api.upload_schemas import Upload, UploadLinks, UploadPart, UploadState
from core import models, uploads
from core.config import settings
from core.errors import NotFound
from core.storage import storage
from core.uploads import UploadStatus

UPLOADS: Final = "/v1/uploads"
LOCATION: Final = {"schema": {"type": "string"}, "description": "Path of the upload."}
#: URLs in one answer: 256 parts of 16 MiB are 4 GiB, and the answer has 200 KB.
MAX_URLS: Final = 256
#: Columns that are shown as they are.
PLAIN: Final = (
    "id",
    "filename",
    "size_bytes",
    "part_bytes",
    "sha256",
    "created_at",
    "completed_at",
    "expires_at",
)


def shown(row: models.Upload) -> Upload:
    """The upload as it is now. Raises StorageError while it is open and the storage does not answer."""
    here, now = f"{UPLOADS}/{row.id}", datetime.now(UTC)
    until = min(now + settings().uploads.url_ttl, row.expires_at)
    parts = _parts(row, until - now) if state_of(row, now) is UploadState.OPEN else []
    return Upload(
        status=state_of(row, now),
        parts=parts,
        urls_expire_at=until if any(part.url for part in parts) else None,
        links=UploadLinks(self=here, complete=f"{here}/complete"),
        **{name: getattr(row, name) for name in PLAIN},
    )


def state_of(row: models.Upload, now: datetime) -> UploadState:
    """Its status, and whether its time is over though nobody has dropped it yet."""
    status = UploadStatus(row.status)
    over = status in {UploadStatus.OPEN, UploadStatus.COMPLETED} and row.expires_at <= now
    return UploadState.EXPIRED if over else UploadState(status.value)


def _parts(row: models.Upload, ttl: timedelta) -> list[UploadPart]:
    """All parts of an open upload; without URLs once they are joined, or lost: complete says which."""
    sizes = uploads.part_sizes(row.size_bytes, row.part_bytes)
    try:
        there = uploads.received(row)
    except NotFound:
        return [UploadPart(number=n, size_bytes=size, received=True, url=None) for n, size in sizes.items()]
    asked = set([n for n in sizes if n not in there][:MAX_URLS])
    return [
        UploadPart(
            number=n,
            size_bytes=size,
            received=n in there,
            url=_url(row, n, size, ttl) if n in asked else None,
        )
        for n, size in sizes.items()
    ]


def _url(row: models.Upload, number: int, size: int, ttl: timedelta) -> str:
    return storage().part_url(row.object_key, row.multipart_id or "", number, size, ttl)
