"""A file from the network to the object storage, in bounded memory.

The loop only moves bytes; parsing, hashing and S3 run in a thread, a batch at a time, and the next
batch is not read before that is done. So a slow storage slows the sender, and nothing piles up: per
upload there is one batch (1 MiB) and the storage's part (8 MiB, twice while it is sent).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from starlette.requests import Request

from api.body import JSON, media_type, pieces, read_object, refuse_encoded
from api.errors import BodyTooLarge
from api.form import FIELD_BOUNDS, metadata_object, metadata_of, options_of, terms_of, typed
from api.multipart import ECHOED, FormReader, boundary_of
from api.sources import FILE, Source, named_source
from core import logging
from core.analyses import StoredUpload
from core.config import Limits
from core.domain import Frozen, Options, Terms
from core.errors import InvalidOption, MalformedUpload, PayloadTooLarge, StorageError
from core.filenames import display_name
from core.storage import Storage, Upload

log = logging.get(__name__)
BATCH_BYTES: Final = 1024 * 1024
#: The fields at their largest, the headers of a part for each, boundaries and a little epilogue.
FORM_OVERHEAD: Final = sum(FIELD_BOUNDS.values()) + (len(FIELD_BOUNDS) + 1) * 8 * 4224 + 4096
#: A 20-digit Content-Length is no file.
MAX_LENGTH_DIGITS = 20
#: Uploads that may talk to the storage at once: their own, so that a hung storage stops no other call.
STORAGE_THREADS = 16


class Submitted(Frozen):
    """A file, wherever it is, and what its sender wants done with it."""

    source: Source
    options: Options
    terms: Terms
    metadata: dict[str, Any]


class Intake:
    """One body on its way into the storage. Sync; `abort` may follow at any point, also twice."""

    def __init__(self, boundary: bytes, limits: Limits, storage: Callable[[], Storage]) -> None:
        self._form = FormReader(boundary, FIELD_BOUNDS, self._on_file)
        self._limits, self._storage = limits, storage
        self._key = f"media/{uuid4()}"  # the server's own name; the sender's is only shown
        self._upload: Upload | None = None
        self._digest = hashlib.sha256()
        self._size = self._body = 0
        self._stored = False

    def feed(self, data: bytes) -> None:
        """Take more of the body. Raises what is wrong with it, or StorageError."""
        self._form.feed(data)
        self._body += len(data)
        if self._body > self._limits.max_upload_bytes + FORM_OVERHEAD:  # an endless epilogue, say
            raise BodyTooLarge(limit_bytes=self._limits.max_upload_bytes)

    def _on_file(self, data: memoryview) -> None:
        self._size += len(data)
        if self._size > self._limits.max_upload_bytes:
            raise PayloadTooLarge(limit_bytes=self._limits.max_upload_bytes)
        if self._upload is None:
            self._upload = self._storage().open_upload(self._key)
        self._digest.update(data)
        self._upload.write(bytes(data))

    def finish(self) -> Submitted:
        """Check the form as a whole and make the object visible, if the file came with it."""
        self._form.finish()
        fields = self._form.fields
        options, terms, metadata = options_of(fields), terms_of(fields), metadata_of(fields.get("metadata"))
        source = self._store() if self._form.filename is not None else named_source(fields)
        return Submitted(source=source, options=options, terms=terms, metadata=metadata)

    def _store(self) -> StoredUpload:
        """The file as an object. Raises InvalidOption when it is too small to be one."""
        if self._upload is None:
            raise InvalidOption("the file is empty", code="empty_file", field=FILE)
        if self._size < self._limits.min_upload_bytes:
            limit = self._limits.min_upload_bytes
            raise InvalidOption("the file is too small", code="file_too_small", field=FILE, limit_bytes=limit)
        self._upload.complete()
        self._stored = True
        return StoredUpload(
            sha256=self._digest.hexdigest(),
            size_bytes=self._size,
            object_key=self._key,
            filename=display_name(self._form.filename or ""),
        )

    def abort(self) -> None:
        """Give back what was stored. What goes wrong here must not hide why it is called."""
        if self._upload is None:
            return
        try:
            if self._stored:
                self._storage().delete(self._key)
            else:
                self._upload.abort()
        except StorageError:
            log.warning("an aborted upload stays in the storage", action="abort_failed", key=self._key)


async def receive(
    request: Request, limits: Limits, storage: Callable[[], Storage], threads: CapacityLimiter
) -> Submitted:
    """A submission: a form, whose file is streamed into the storage, or a JSON object that names one.

    Raises UnsupportedMedia, MalformedUpload, MalformedJson, InvalidOption, UnsafeUrl, PayloadTooLarge,
    UploadStalled, StorageError or starlette's ClientDisconnect; in every case, and when the server
    stops, nothing is left behind.
    """
    if media_type(request) == JSON:
        return _named(await read_object(request, idle=limits.upload_idle.total_seconds()))
    intake = Intake(_check_headers(request, limits), limits, storage)
    try:
        async with aclosing(_batches(request, limits.upload_idle.total_seconds())) as batches:
            async for batch in batches:
                await anyio.to_thread.run_sync(intake.feed, batch, limiter=threads)
        return await anyio.to_thread.run_sync(intake.finish, limiter=threads)
    except BaseException:  # cancelation too: an unfinished multipart upload costs storage for ever
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(intake.abort, limiter=threads)
        raise


def _named(members: dict[str, Any]) -> Submitted:
    """A submission without a file of its own."""
    for name in members:
        if name == FILE:
            raise InvalidOption("a file is sent as multipart/form-data", code="not_a_file", field=FILE)
        if name not in FIELD_BOUNDS:
            known = list(FIELD_BOUNDS)
            raise InvalidOption(
                "the object has an unknown member", code="unknown_field", field=name[:ECHOED], known=known
            )
    return Submitted(
        options=typed(Options, members),
        terms=typed(Terms, members),
        metadata=metadata_object(members.get("metadata", {})),
        source=named_source(members),
    )


def _check_headers(request: Request, limits: Limits) -> bytes:
    """The boundary, when the headers promise a body that can be taken."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    refuse_encoded(request)
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < MAX_LENGTH_DIGITS):
        raise MalformedUpload("the Content-Length is not a number of bytes")
    if int(length) > limits.max_upload_bytes + FORM_OVERHEAD:
        raise PayloadTooLarge(limit_bytes=limits.max_upload_bytes)
    return boundary


async def _batches(request: Request, idle: float) -> AsyncGenerator[bytes]:
    """The body in pieces of about a batch: one hop to a thread for each, not for each packet."""
    batch = bytearray()
    async with aclosing(pieces(request, idle)) as stream:
        async for piece in stream:
            batch += piece
            if len(batch) >= BATCH_BYTES:
                yield bytes(batch)
                batch.clear()
    if batch:
        yield bytes(batch)
