"""Uploads for tests: begun in the real storage, their parts sent as a stranger sends them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import httpx2
from sqlalchemy import text

from core import db, uploads
from core.config import MiB
from core.models import Upload
from core.storage import storage

PART = 5 * MiB
OWNER = "alice"


def begin(size: int = 1000, *, owner: str = OWNER, sha256: str | None = None) -> Upload:
    """An open upload."""
    begun = uploads.draft(uploads.Wanted(size_bytes=size, filename="clip.mp4", sha256=sha256))
    with db.transaction() as session:
        return uploads.record(session, owner, begun)


def send(row: Upload, data: bytes, numbers: Iterable[int] | None = None) -> None:
    """PUT these parts of the data, by default all."""
    sizes = uploads.part_sizes(row.size_bytes, row.part_bytes)
    for number in numbers if numbers is not None else sizes:
        first = (number - 1) * row.part_bytes
        url = storage().part_url(
            row.object_key, row.multipart_id or "", number, sizes[number], timedelta(hours=1)
        )
        piece = data[first : first + row.part_bytes]
        assert httpx2.put(url, content=piece, timeout=30, trust_env=False).status_code == 200


def sent(size: int = 1000, *, owner: str = OWNER, sha256: str | None = None) -> tuple[Upload, bytes]:
    """An upload whose parts are all there, and its bytes."""
    data = os.urandom(size)
    row = begin(size, owner=owner, sha256=sha256)
    send(row, data)
    return row, data


def current(row: Upload) -> Upload | None:
    """The row as it is now."""
    with db.read() as session:
        return session.get(Upload, row.id)


def age(row: Upload, seconds: float) -> None:
    """As if the upload had been begun so much earlier."""
    with db.transaction() as session:
        session.execute(
            text(
                "UPDATE uploads SET expires_at = expires_at - make_interval(secs => :s),"
                " lease_expires = lease_expires - make_interval(secs => :s) WHERE id = :id"
            ),
            {"s": seconds, "id": row.id},
        )


def kept() -> tuple[list[str], list[str]]:
    """Objects below `media/`, and parts that were neither joined nor dropped."""
    loose = storage().stale_multipart_uploads(timedelta(0))
    return sorted(storage().keys("media/")), sorted(item.key for item in loose)
