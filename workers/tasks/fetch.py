"""The file of a submission by URL: fetched through the guard, stored, and given to its analysis.

It is attached in a transaction of its own, so that whatever befalls the extraction after it, nothing is
fetched twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

from core import analyses, failpoints, logging
from core.config import Limits, settings
from core.db import transaction
from core.errors import MediaError, StorageError, Unreachable, UnsafeUrl, Unusable
from core.storage import storage
from workers.heart import Hold
from workers.outbound import Fetched, fetch

log = logging.get(__name__)
PIECE: Final = 1024 * 1024  # bytes read at once; a part of the storage has several
#: Codes of the guard as those of a failed analysis; every other one is an outage.
FINAL: Final = {
    "unsafe_url": "source_unsafe_url",
    "tls_failed": "source_tls_failed",
    "refused": "source_refused",
    "too_large": "source_too_large",
    "wrong_type": "source_wrong_type",
}
#: What a server that may be back in a minute is called meanwhile, and when it is not back.
TRANSIENT: Final = {"timed_out": "source_timed_out"}


def fetch_media(hold: Hold, url: str, into: Path) -> None:
    """Bring the file behind `url` into `into`, and make it the analysis' media.

    Raises MediaError when there is none to be had, Unreachable (an outage) when it may be there later,
    and Fenced; nothing stays in the storage then.
    """
    fetched = _fetched(hold, url, into)
    key = f"media/{uuid4()}"
    _store(hold, into, key)
    failpoints.reach(failpoints.Point.SOURCE_STORED)
    _attach(hold, fetched, key)


def _fetched(hold: Hold, url: str, into: Path) -> Fetched:
    config, limits = settings().source_url, settings().limits
    if not config.enabled:
        raise MediaError("this server does not fetch files", code="source_url_disabled")
    try:
        fetched = fetch(url, into, policy=config, max_bytes=limits.max_upload_bytes, checkpoint=hold.check)
    except (UnsafeUrl, Unreachable, Unusable) as error:
        raise _in_our_words(hold, error) from error
    _refuse_small(fetched, limits)
    log.info("fetched", action="source_fetched", size_bytes=fetched.size_bytes)
    return fetched


def _in_our_words(hold: Hold, error: UnsafeUrl | Unreachable | Unusable) -> MediaError | Unreachable:
    if error.code in FINAL:
        return MediaError(error.detail, code=FINAL[error.code], **error.extra)
    code = TRANSIENT.get(error.code, "source_unreachable")
    if hold.claim.attempt >= settings().steps.max_attempts:
        return MediaError(error.detail, code=code)
    return Unreachable(error.detail, code=code)


def _refuse_small(fetched: Fetched, limits: Limits) -> None:
    if fetched.size_bytes == 0:
        raise MediaError("the file is empty", code="source_empty")
    least = limits.min_upload_bytes
    if fetched.size_bytes < least:
        raise MediaError("the file is too small", code="source_too_small", limit_bytes=least)


def _store(hold: Hold, path: Path, key: str) -> None:
    """Write the object in pieces, each a checkpoint; nothing is left of one that was not completed."""
    upload = storage().open_upload(key)
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                hold.check()
                upload.write(piece)
        hold.check()
        upload.complete()
    except BaseException:
        _discard(upload.abort)
        raise


def _attach(hold: Hold, fetched: Fetched, key: str) -> None:
    """Give the object to the analysis, or drop it where it is not wanted."""
    upload = analyses.StoredUpload(
        sha256=fetched.sha256, size_bytes=fetched.size_bytes, object_key=key, filename=fetched.filename
    )
    committing = False
    try:
        with transaction() as session:
            surplus = analyses.attach(session, hold.claim, upload)
            committing = True
    except BaseException:
        # A commit that failed may have happened: then the object is owned, and stays.
        if not committing:
            _discard(lambda: storage().delete(key))
        raise
    if surplus is not None:
        _discard(lambda: storage().delete(surplus))


def _discard(drop: Callable[[], None]) -> None:
    """What goes wrong here must not hide why it is called; the sweep of orphans comes later."""
    try:
        drop()
    except StorageError:
        log.warning("an object without an owner stays in the storage", action="discard_failed")
