"""Liveness, readiness, figures. Open to all: probes carry no key, and the answers name nobody."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from api import metrics, readiness
from api.openapi import problems
from api.readiness import Readiness, State

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
        **problems(),
    },
)
def get_metrics() -> Any:
    """Prometheus figures about all owners together; keep it behind your proxy."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
