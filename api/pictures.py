"""Pictures from the storage: one as an answer, many at once for a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.responses import Response

from api.page.gallery import MAX_ONE_PICTURE, MAX_PICTURE_BYTES, kind
from core import logging
from core.errors import NotFound, PictureErased, StorageError
from core.storage import storage

log = logging.get(__name__)
#: Reads of pictures in flight, hung ones included: nothing else waits for them.
PICTURE_THREADS: Final = 8
#: How long a page waits for its pictures; without them it is still a report.
PATIENCE_SECONDS: Final = 10
#: A picture never changes under its address, but it may be erased.
CACHING: Final = {"Cache-Control": "private, max-age=300", "Vary": "Authorization"}


@dataclass
class Fetched:
    """The pictures of a page. Not complete: the storage owes some, and another look may find them."""

    found: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True


def answer(key: str) -> Response:
    """A picture. Raises PictureErased when the object is gone, StorageError."""
    content = _read(key)
    media_type = kind(content)
    if media_type is None:
        raise StorageError("an object is not the picture that it was")
    return Response(content, media_type=media_type, headers=CACHING)


def _read(key: str) -> bytes:
    """At most MAX_ONE_PICTURE of it. Raises PictureErased, StorageError."""
    try:
        return storage().read_range(key, 0, MAX_ONE_PICTURE)
    except NotFound as gone:
        raise PictureErased from gone


async def fetch(keys: Iterable[str], limiter: CapacityLimiter) -> Fetched:
    """As many pictures as a page may carry, the first ones first."""
    read: dict[str, bytes | None] = {}
    ordered = list(keys)

    async def one(key: str) -> None:
        read[key] = await to_thread.run_sync(_look, key, limiter=limiter, abandon_on_cancel=True)

    with anyio.move_on_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as group:
            for key in ordered:
                group.start_soon(one, key)
    fetched = Fetched(complete=all(read.get(key) is not None for key in ordered))
    room = MAX_PICTURE_BYTES
    for key in ordered:
        content = read.get(key) or b""
        if 0 < len(content) <= room:
            fetched.found[key] = content
            room -= len(content)
    return fetched


def _look(key: str) -> bytes | None:
    """The picture; empty when it is gone, None when the storage did not say."""
    try:
        return _read(key)
    except PictureErased:
        return b""
    except StorageError:
        log.warning("a page goes without a picture", action="picture_not_read", exc_info=True)
        return None
