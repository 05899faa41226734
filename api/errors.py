"""Every error leaves as RFC 9457 `application/problem+json` with a stable `code`.

DeepDefendError (core.errors)
├── NotAuthenticated (401)   Unauthorized with its challenge
├── MissingScope (403)       Forbidden with its challenge
├── UploadStalled (408)      the sender stopped sending
└── BodyTooLarge (413)       a body beyond what the call, or its form, may have

Nothing about our own insides leaves: the detail of a failure of ours is the class's sentence, and
the log has the rest under the same request id.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from core import logging
from core.errors import (
    DeepDefendError,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
)

log = logging.get(__name__)
PROBLEM_JSON: Final = "application/problem+json"
REALM: Final = 'Bearer realm="deepdefend"'
#: Seconds after which an outage is worth another try; a PostgreSQL restart takes about that long.
OUTAGE_RETRY_AFTER = 5
SERVER_ERROR: Final = 500
#: nginx's word for a caller who hung up; no answer can reach them, only the log sees it.
CLIENT_CLOSED_REQUEST: Final = 499


class NotAuthenticated(Unauthorized):
    """A valid API key is needed: `Authorization: Bearer dd_…`."""

    challenge = REALM

    def __init__(self, *, presented: bool) -> None:
        super().__init__()
        if presented:  # RFC 6750: an error code only when a credential was there at all
            self.challenge = f'{REALM}, error="invalid_token"'


class MissingScope(Forbidden):
    """This API key does not have the scope that the call needs."""

    def __init__(self, scope: str) -> None:
        super().__init__(required_scope=scope)
        self.challenge = f'{REALM}, error="insufficient_scope", scope="{scope}"'


class UploadStalled(InvalidRequest):
    """The sender stopped sending before the end of the body."""

    status_code = 408
    code = "upload_stalled"


class BodyTooLarge(PayloadTooLarge):
    """The request body is larger than any this call takes."""

    code = "body_too_large"


class EarlyEnd(HTTPException):
    """Ends the reading of a body with `error`. FastAPI takes every other exception there for bad JSON."""

    def __init__(self, error: DeepDefendError) -> None:
        super().__init__(error.status_code)
        self.error = error


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again later."""

    code = "database_unavailable"


def is_outage(error: SQLAlchemyError) -> bool:
    """Whether the database is away, rather than asked something wrong."""
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def respond(scope: Scope, error: Exception) -> Response:
    """The response to any exception. What is our fault is logged here, with its traceback."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    problem, headers = _describe(error)
    if problem["status"] >= SERVER_ERROR:
        log.error("request failed", action="request_failed", code=problem["code"], exc_info=error)
    problem["instance"] = quote(scope["path"], safe="/:@!$&'()*+,;=~")
    problem["request_id"] = scope.get("state", {}).get("request_id")
    headers = {"Cache-Control": "no-store", **headers}
    return JSONResponse(problem, problem["status"], headers, media_type=PROBLEM_JSON)


def _describe(error: Exception) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The problem members and the headers that go with them."""
    if isinstance(error, EarlyEnd):
        error = error.error
    if isinstance(error, SQLAlchemyError) and is_outage(error):
        error = DatabaseUnavailable()
    if isinstance(error, DeepDefendError):
        return _of_ours(error), _headers_of(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error), {}
    if isinstance(error, HTTPException):
        return _of_http(error), error.headers or {}
    return _safe(DeepDefendError()), {}


def _of_ours(error: DeepDefendError) -> dict[str, Any]:
    """The error's own words, unless they are about our insides."""
    if error.status_code < SERVER_ERROR or isinstance(error, Unavailable):
        return error.problem()
    return _safe(error)


def _safe(error: DeepDefendError) -> dict[str, Any]:
    """Status and code without the detail, which may name hosts, keys or queries."""
    return error.problem() | {"detail": (type(error).__doc__ or "").strip()}


def _headers_of(error: DeepDefendError) -> dict[str, str]:
    challenge = getattr(error, "challenge", None)
    if challenge:
        return {"WWW-Authenticate": challenge}
    if "retry_after" in error.extra:
        return {"Retry-After": str(error.extra["retry_after"])}
    if error.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(OUTAGE_RETRY_AFTER)}
    return {}


def _of_validation(error: RequestValidationError) -> dict[str, Any]:
    """What is wrong and where, without echoing what was sent."""
    found = [
        {"location": [str(step) for step in item["loc"]], "message": item["msg"], "type": item["type"]}
        for item in error.errors()
    ]
    problem = InvalidRequest("a parameter is missing, unknown or out of its bounds", code="invalid_parameter")
    return problem.problem() | {"status": HTTPStatus.UNPROCESSABLE_ENTITY.value, "errors": found}


def _of_http(error: HTTPException) -> dict[str, Any]:
    """Starlette's own: no such path, wrong method, and the like."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("there is nothing at this address").problem()
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    return DeepDefendError(str(error.detail), code=code).problem() | {"status": error.status_code}
