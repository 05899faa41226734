"""Pages of other origins may call the API only when the settings name them."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import respond
from core.config import settings
from core.errors import Forbidden

METHODS = ("GET", "POST", "PUT", "DELETE")
#: What a page may send; a key in `Authorization`, never a cookie.
SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-ID")
#: What a page may read besides the body.
READ = (
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Request-ID",
)


class OriginNotAllowed(Forbidden):
    """Pages of this origin may not call this API, or not in this way."""

    code = "origin_not_allowed"


class Cors:
    """Without origins in the settings there is no CORS header and no preflight at all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._origins: tuple[str, ...] = ()
        self._open: _Open | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origins = settings().cors_origins
        if origins != self._origins:
            self._origins, self._open = origins, _Open(self._app, origins) if origins else None
        await (self._open or self._app)(scope, receive, send)


class _Open(CORSMiddleware):
    """Starlette's, with our words for a refusal."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=READ
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = Headers(scope=scope)
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if preflight and "origin" in headers:
            await self._answer(scope, headers)(scope, receive, send)
            return
        await self.simple_response(scope, receive, send, request_headers=headers)

    def _answer(self, scope: Scope, headers: Headers) -> Response:
        found = self.preflight_response(headers)
        if found.status_code < 400:  # noqa: PLR2004 - HTTP's own number
            return Response(
                status_code=204, headers={k: v for k, v in found.headers.items() if k not in BODY}
            )
        refused = respond(scope, OriginNotAllowed())
        refused.headers["Vary"] = found.headers["Vary"]
        return refused


#: Of the answer that Starlette made, and that has a body.
BODY = frozenset({"content-length", "content-type"})
