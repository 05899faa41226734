"""Numbers over the caller's own analyses."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import StatsReader
from api.openapi import problems
from api.schemas import Stats
from core import listing
from core.db import read

router = APIRouter(prefix="/v1/stats", tags=["statistics"])


@router.get("", responses=problems(401, 403))
def get_stats(caller: StatsReader) -> Stats:
    """How many, with which verdicts, how sure, and audio against video."""
    with read() as session:
        return Stats.model_validate(listing.stats(session, caller.owner))
