"""Refuses work that there is no room for, before its first byte is read.

Per key: uploads at once. For everybody: uploads at once, disks, the object storage, and the work that
waits. Redis is not asked: what is accepted while it is down is in Postgres, and starts when it is back.
"""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from api.authentication import accepts_work, call_of, creates_analysis
from api.errors import respond
from api.pressure import Full, Pressure
from core import logging
from core.config import settings
from core.errors import DeepDefendError, StorageFull, TooManyRequests

log = logging.get(__name__)
#: An upload takes seconds to minutes; the next place is free when one ends.
UPLOAD_RETRY = 2


class Admission:
    """Comes after Authentication, which knows the caller and the quotas."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._pressure = Pressure()
        self._bodies: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not accepts_work(call_of(scope)):
            await self._app(scope, receive, send)
            return
        key = scope["state"]["caller"].key_id
        refused = self._crowded(key)
        if refused is None:
            self._bodies[key] += 1
            try:
                refused = await self._serve(scope, receive, send)
            finally:
                self._leave(key)
        if refused is not None:
            log.info("no room for a request", action="refused", code=refused.code, key=key)
            await respond(scope, refused)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> DeepDefendError | None:
        submitting = creates_analysis(call_of(scope))
        refused = await self._pressure.refusal(work=submitting and not scope["state"]["replay"])
        if refused is not None:
            return refused
        try:
            await self._app(scope, receive, send)
        except StorageFull:
            self._pressure.storage_is_full()
            raise
        return None

    def _crowded(self, key: str) -> DeepDefendError | None:
        admission = settings().admission
        if self._bodies[key] >= admission.uploads:
            return TooManyRequests(
                f"this API key has {admission.uploads} uploads under way",
                code="too_many_uploads",
                retry_after=UPLOAD_RETRY,
                limit=admission.uploads,
            )
        if self._bodies.total() >= admission.bodies:
            return Full("too many uploads are under way", code="server_busy", retry_after=UPLOAD_RETRY)
        return None

    def _leave(self, key: str) -> None:
        self._bodies[key] -= 1
        if not self._bodies[key]:
            del self._bodies[key]
