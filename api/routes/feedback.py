"""What a person says an analysed file is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from api import envelopes
from api.body import read_object
from api.dependencies import Reader, Writer
from api.form import strictly
from api.openapi import json_body, problems
from core import feedback, models
from core.config import settings
from core.db import read, transaction
from core.domain import Label
from core.keys import Caller

router = APIRouter(prefix=envelopes.ANALYSES, tags=["analyses"])
#: Where from somebody knows it is a paragraph, not a file.
MAX_NOTE = 2000
#: PostgreSQL takes no NUL.
NOTE = r"^[^\x00]*$"


class NewFeedback(BaseModel):
    """What the file is, known from elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Label = Field(description="`fake` where anything in it is generated or altered to deceive.")
    note: Annotated[str, Field(max_length=MAX_NOTE, pattern=NOTE)] | None = Field(
        default=None, description="Where from you know it. It goes with the analysis when that is erased."
    )


class Feedback(BaseModel):
    """The label that is kept."""

    analysis_id: UUID
    label: Label
    note: str | None
    actor: str = Field(description="Public prefix of the API key that gave it.")
    at: datetime


@router.post(
    "/{analysis_id}/feedback",
    responses=problems(400, 401, 403, 404, 408, 409, 413, 415, 422),
    openapi_extra=json_body(NewFeedback, required=True),
)
async def give_feedback(analysis_id: UUID, request: Request, caller: Writer) -> Feedback:
    """Say what the file of a completed analysis is. A later word replaces an earlier one.

    It changes no verdict and no report; `deepdefend evaluate --from-feedback` measures the detectors on it.
    409 `not_completed`: there is no verdict to hold it against.
    """
    idle = settings().limits.upload_idle.total_seconds()
    given = strictly(NewFeedback, await read_object(request, idle=idle))
    return await run_in_threadpool(_give, caller, analysis_id, given, request.state.request_id)


def _give(caller: Caller, analysis_id: UUID, given: NewFeedback, request_id: str) -> Feedback:
    with transaction() as session:
        row = feedback.give(
            session, caller, analysis_id, label=given.label, note=given.note, request_id=request_id
        )
        return _shown(row)


@router.get("/{analysis_id}/feedback", responses=problems(401, 403, 404, 422))
def get_feedback(analysis_id: UUID, caller: Reader) -> Feedback:
    """What somebody of yours said the file is; 404 where nobody has."""
    with read() as session:
        return _shown(feedback.find(session, caller.owner, analysis_id))


def _shown(row: models.Feedback) -> Feedback:
    return Feedback.model_validate({name: getattr(row, name) for name in Feedback.model_fields})
