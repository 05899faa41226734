"""The API as an ASGI application: `uvicorn api.app:app`.

Importing reads no setting and opens no connection; the first request, or the start-up, does.
"""

from __future__ import annotations

import logging as standard_logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from api import openapi
from api.admission import Admission
from api.authentication import Authentication
from api.bounds import Bounds
from api.cors import Cors
from api.dependencies import BEARER, once
from api.errors import respond
from api.middleware import Envelope, Head, Linger, Problems
from api.pictures import PICTURE_THREADS
from api.routes import (
    analyses,
    audit,
    detectors,
    erasure,
    feedback,
    health,
    pages,
    pictures,
    report_page,
    stability,
    stats,
    uploads,
    webhook_endpoints,
)
from api.upload import STORAGE_THREADS
from core import db, logging
from core.config import settings

#: Looks of `/readyz` that may be in flight, hung ones included: nothing else waits for them.
PROBE_THREADS = 9
#: Methods that routes of an API may have.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Api(FastAPI):
    """FastAPI with our OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The document of `/openapi.json`."""
        return openapi.document(self)


def create_app() -> FastAPI:
    """A new application. Settings are read when it starts or serves, not here."""
    app = Api(
        title="DeepDefend",
        version=_version(),
        lifespan=_lifespan,
        docs_url=None,  # ours is served without a CDN: api.routes.pages
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # operation ids as people would name them
        redirect_slashes=False,  # one address for each thing
        exception_handlers={HTTPException: _problem, RequestValidationError: _problem},
    )
    app.state.upload_threads = CapacityLimiter(STORAGE_THREADS)
    app.state.probe_threads = CapacityLimiter(PROBE_THREADS)
    app.state.picture_threads = CapacityLimiter(PICTURE_THREADS)
    app.state.erasure_threads = CapacityLimiter(erasure.ERASURE_THREADS)
    for keyed in (
        analyses.router,
        report_page.router,
        pictures.router,
        stability.router,
        feedback.router,
        erasure.router,
        audit.router,
        uploads.router,
        webhook_endpoints.router,
        stats.router,
        detectors.router,
    ):
        app.include_router(keyed, dependencies=[Depends(BEARER), Depends(once)])
    for public in (health.router, pages.router):
        app.include_router(public)
    for middleware in (Head, Admission, Authentication, Bounds, Problems, Cors, Envelope, Linger):
        app.add_middleware(middleware)  # the last added is the outermost
    return app


def _version() -> str:
    """Of the installed distribution; a bare checkout has none."""
    try:
        return version("deepdefend")
    except PackageNotFoundError:
        return "unknown"


async def _problem(request: Request, error: Exception) -> Response:
    """Without these two handlers FastAPI would answer in its own words before `Envelope` sees it."""
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": _allowed(request)}
    return respond(request.scope, error)


def _allowed(request: Request) -> str:
    """Every method of this address; Starlette names only those of the first route that has it."""
    allowed = {
        method
        for method in METHODS
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Check the settings, join uvicorn's log to ours, and give connections back at the end."""
    logging.configure(settings(), "api")
    for name in ("uvicorn", "uvicorn.error"):
        logger = standard_logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    await to_thread.run_sync(app.openapi)  # two seconds of work that no first caller should wait for
    yield
    db.engine().dispose()


app = create_app()
