"""Clears the bucket of what no row names: whole objects, and parts that were never joined."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Final

from core import audit, logging, uploads
from core.analyses import FILES, FOLDERS
from core.config import settings
from core.db import read, transaction
from core.retention import bucket, orphans
from core.storage import StoredObject, storage

log = logging.get(__name__)
#: Objects looked at in one go: one page of a listing.
BATCH: Final = 1000


class OrphanSweep:
    """Goes through the bucket, a batch a call, and begins anew when it is through.

    Where it stands is in memory: a dispatcher that starts anew begins anew, which costs listings only.
    """

    def __init__(self) -> None:
        self._after = ""

    def __call__(self, stopping: threading.Event) -> bool:
        """Look at one batch; False at the end of the bucket. Raises StorageError."""
        if stopping.is_set() or not _may_clear():
            return False
        batch = list(islice(_listing(self._after), BATCH))
        # Killed in here: the next pass finds the same objects, less those that are gone.
        _erase_unnamed(batch)
        self._after = batch[-1].key if len(batch) == BATCH else ""
        return self._after != ""


def drop_loose_parts(stopping: threading.Event) -> bool:
    """Abort multipart uploads that began too long ago for anybody to be sending. Raises StorageError."""
    if stopping.is_set() or not _may_clear():
        return False
    stale = storage().stale_multipart_uploads(datetime.now(UTC) - cutoff())
    with read() as session:
        named = uploads.named_parts(session)
    for loose in stale:
        if loose.multipart_id not in named and loose.key.startswith((FILES, FOLDERS)):
            storage().abort_parts(loose.key, loose.multipart_id)
            log.warning("dropped parts that were never joined", action="parts_dropped", key=loose.key)
    return False


def cutoff() -> datetime:
    """What is younger may be on its way into a row."""
    return datetime.now(UTC) - settings().retention.orphans


def _may_clear() -> bool:
    ours = bucket.is_ours()
    if not ours:
        log.error("another installation has this bucket: not clearing up", action="bucket_not_ours")
    return ours


def _listing(after: str) -> Iterator[StoredObject]:
    """All objects of ours after a name. The folders come before the files in the order of names."""
    prefixes = [prefix for prefix in sorted((FOLDERS, FILES)) if after < prefix or after.startswith(prefix)]
    return chain.from_iterable(storage().objects(prefix, after=after) for prefix in prefixes)


def _erase_unnamed(batch: list[StoredObject]) -> None:
    old = {item.key: item.size_bytes for item in batch if item.modified < cutoff()}
    if not old:
        return
    with read() as session:
        unnamed = orphans.unnamed(session, list(old))
    if not unnamed:
        return
    storage().delete_all(unnamed)
    counted = {"objects": len(unnamed), "bytes": sum(old[key] for key in unnamed)}
    with transaction() as session:
        audit.record(
            session,
            actor=audit.DISPATCHER,
            owner=None,
            action=audit.Action.ORPHANS_ERASED,
            subject=settings().s3.bucket,
            detail={**counted, "first": unnamed[0]},
        )
    log.warning("erased objects that no row named", action="orphans_erased", first=unnamed[0], **counted)
