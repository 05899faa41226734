"""Liveness, readiness, figures. The answers name nobody; probes carry no key, Prometheus a token."""

from __future__ import annotations

import hmac
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api import metrics, readiness
from api.errors import NotAuthenticated
from api.openapi import problems
from api.readiness import Readiness, State
from api.schemas import Problem
from core.config import settings

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def get_health() -> Alive:
    """Whether this process runs. It asks nobody else: restarting it would mend nobody else."""
    return Alive()


@router.get(
    "/readyz",
    responses=problems() | {503: {"model": Readiness, "description": "Submissions cannot be taken."}},
)
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Whether submissions can be taken, and how everything behind the API is."""
    found = await readiness.look(request.app.state.probe_threads)
    response.status_code = 503 if found.status is State.UNAVAILABLE else 200
    response.headers["Cache-Control"] = "no-store"
    return found


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."},
        401: {"model": Problem, "description": "The token is not that of the settings: `unauthorized`."},
        **problems(),
    },
)
def get_metrics(request: Request) -> Any:
    """Prometheus figures about all owners together, for the bearer of `DEEPDEFEND_METRICS_TOKEN`.

    Without that setting they are open in development, and closed in production.
    """
    _check_token(request.headers.getlist("authorization"))
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _check_token(presented: list[str]) -> None:
    """Raises NotAuthenticated."""
    token = settings().metrics_token
    if token is None and settings().environment == "development":
        return
    scheme, _, given = presented[0].partition(" ") if len(presented) == 1 else ("", "", "")
    expected = token.get_secret_value() if token is not None else ""
    same = hmac.compare_digest(given.strip(" ").encode(), expected.encode())
    if token is None or scheme.lower() != "bearer" or not same:
        raise NotAuthenticated(presented=bool(presented))
