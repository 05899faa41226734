"""Which detectors are loaded, as the live workers say themselves."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import Reader
from api.detector_schemas import Detectors, Worker
from api.openapi import problems
from core import fleet
from core.db import read

router = APIRouter(prefix="/v1/detectors", tags=["detectors"])


@router.get("", responses=problems(401, 403))
def list_detectors(_: Reader) -> Detectors:
    """One entry for each live worker process; a detector that is missing says how to mend it."""
    with read() as session:
        return Detectors(
            workers=[Worker.model_validate(row, from_attributes=True) for row in fleet.live(session)]
        )
