"""Analyses with objects in a real bucket, for the tests of what erases them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import analyses, db, results, retention, steps
from core.config import settings
from core.domain import AnalysisStatus, Options, Stage, Terms
from core.errors import DeepDefendError
from core.keys import Caller
from core.models import Analysis, Media
from core.storage import storage
from tests.conftest import point_settings
from tests.core.factories import build_manifest, build_report, claim_step

#: A port where nothing listens.
NOWHERE = "http://127.0.0.1:1"


def put(key: str, content: bytes = b"x") -> str:
    """An object; returns its key."""
    upload = storage().open_upload(key)
    upload.write(content)
    upload.complete()
    return key


def objects(*prefixes: str) -> list[str]:
    """Names in the bucket; of files and folders of analyses, unless said otherwise."""
    found = (storage().keys(prefix) for prefix in prefixes or (analyses.FILES, analyses.FOLDERS))
    return sorted(key for keys in found for key in keys)


def empty_bucket() -> None:
    """No files and no folders of analyses; what other tests keep elsewhere stays."""
    storage().delete_all(objects())


def uploaded(content: bytes | None = None) -> analyses.StoredUpload:
    """A stored file, as the API hands it over; the same content has the same digest."""
    content = content or secrets.token_bytes(64)
    key = put(f"{analyses.FILES}{secrets.token_hex(8)}", content)
    return analyses.StoredUpload(
        sha256=content.hex()[:64].ljust(64, "0"), size_bytes=len(content), object_key=key, filename="clip.mp4"
    )


def submitted(caller: Caller, *, content: bytes | None = None, retention_hours: int | None = None) -> UUID:
    """An accepted analysis whose file is in the bucket; a surplus object is discarded, as by the API."""
    with db.transaction() as session:
        accepted = analyses.submit(
            session,
            caller=caller,
            source=uploaded(content),
            options=Options(),
            terms=Terms(retention_hours=retention_hours),
        )
    if accepted.surplus_key is not None:
        storage().delete(accepted.surplus_key)
    return accepted.analysis.id


def scratch(analysis_id: UUID, name: str = "work-1-worker-a") -> str:
    """A working object of an extraction."""
    return put(f"{analyses.folder(analysis_id)}{name}/crops-0.npy", b"crops")


def picture(analysis_id: UUID, name: str = "pictures-1-worker-a") -> str:
    """A thumbnail of an extraction."""
    return put(f"{analyses.folder(analysis_id)}{name}/track-0.jpg", b"jpeg")


def extracted(analysis_id: UUID) -> None:
    """Extraction has run: working objects, a picture, rows."""
    crops, thumbnail = scratch(analysis_id), picture(analysis_id)
    with db.transaction() as session:
        claim = claim_step(session, analysis_id, Stage.EXTRACT)
        folder = crops.rpartition("/")[0] + "/"
        manifest = build_manifest(faces=True, sound=False)
        results.record_extraction(
            session, claim, manifest, scratch=folder, thumbnails={"track-0.jpg": thumbnail}
        )


def ended(analysis_id: UUID, end: str = "completed") -> UUID:
    """Bring it to that end by the product's own ways."""
    if end == "completed":
        extracted(analysis_id)
        with db.transaction() as session:
            steps.finish(session, claim_step(session, analysis_id, Stage.VIDEO))
        with db.transaction() as session:
            claim = claim_step(session, analysis_id, Stage.FUSE)
            results.complete(session, claim, build_report(session, analysis_id))
        return analysis_id
    with db.transaction() as session:
        if end == "failed":
            analyses.fail(session, analysis_id, DeepDefendError("it broke"))
        else:
            assert analyses.transition(session, analysis_id, AnalysisStatus.CANCELED)
    return analysis_id


def load(analysis_id: UUID) -> Analysis:
    """The row as it is now."""
    with db.read() as session:
        return analyses.load(session, analysis_id)


def file_of(analysis_id: UUID) -> Media:
    """The media row as it is now."""
    with db.read() as session:
        return session.scalars(select(Media).join(Analysis).where(Analysis.id == analysis_id)).one()


def let_pass(interval: str, *columns: str) -> None:
    """As if everything in these columns of `analyses` had been so much earlier."""
    changes = ", ".join(f"{name} = {name} - CAST(:by AS interval)" for name in columns)
    with db.transaction() as session:
        session.execute(text(f"UPDATE analyses SET {changes}"), {"by": interval})  # noqa: S608 - our own names


def held(caller: Caller, analysis_id: UUID, reason: str = "case 7") -> Analysis:
    """Put it under a legal hold."""
    with db.transaction() as session:
        return retention.hold(session, caller, analysis_id, reason=reason)


@contextmanager
def away() -> Iterator[None]:
    """The storage does not answer within the block."""
    address = str(settings().s3.endpoint_url)
    _point(NOWHERE)
    try:
        yield
    finally:
        _point(address)


def _point(address: str) -> None:
    point_settings(DEEPDEFEND_S3__ENDPOINT_URL=address)
    storage.cache_clear()


def pretend_killed(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
    """The process ends where that function would begin."""

    def end(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, end)
