"""The report as a page for people."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Header, Request, status
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import envelopes, pictures
from api.dependencies import Reader
from api.openapi import ETAG, problems
from api.page.gallery import chosen, wanted
from api.page.material import Material, Seen, Still
from api.page.render import EDITION, PAGE_POLICY, render
from core import analyses, dossier, models
from core import pictures as kept
from core.db import read
from core.domain import TERMINAL, AnalysisStatus
from core.errors import Conflict
from core.evidence import LipSync
from core.keys import Caller

router = APIRouter(prefix=envelopes.ANALYSES, tags=["reports"])
#: Beyond what the page says of itself: nobody frames it, and it has no origin to speak for.
POLICY: Final = f"{PAGE_POLICY}; frame-ancestors 'none'; sandbox"


class NoReport(Conflict):
    """This analysis has no report."""

    code = "no_report"


@router.get(
    "/{analysis_id}/report.html",
    response_class=Response,
    responses={
        200: {
            "headers": {"ETag": ETAG},
            "content": {"text/html": {"schema": {"type": "string"}}},
            "description": "One page that holds everything it shows.",
        },
        304: {"description": "It is still the version named in If-None-Match."},
        **problems(401, 403, 404, 409, 422),
    },
)
async def get_report_page(
    request: Request,
    analysis_id: UUID,
    caller: Reader,
    if_none_match: Annotated[str | None, Header(description="ETag of the page you have.")] = None,
) -> Response:
    """The report as one page to read and to print: no script, and no request to anywhere.

    409 `no_report` while the analysis runs, and when it ended without one.
    """
    tag, material = await run_in_threadpool(_compile, caller, analysis_id, if_none_match)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if material is None:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    fetched = await pictures.fetch(wanted(material), request.app.state.picture_threads)
    page = await run_in_threadpool(render, replace(material, pictures=fetched.found))
    if not fetched.complete:  # the next look may find more under the same version
        headers = {"Cache-Control": "no-store"}
    name = f'inline; filename="deepdefend-{analysis_id}.html"'
    return HTMLResponse(
        page, headers=headers | {"Content-Disposition": name, "Content-Security-Policy": POLICY}
    )


def _compile(caller: Caller, analysis_id: UUID, if_none_match: str | None) -> tuple[str, Material | None]:
    """The page's version and what it is made of; nothing but the version when the caller has it.

    Raises NotFound, NoReport.
    """
    with read() as session:
        row = analyses.find(session, caller.owner, analysis_id)
        if row.report is None:
            raise _unreported(row)
        tag = f'W/"{row.version}-{EDITION}"'
        if envelopes.matches(if_none_match, tag):
            return tag, None
        return tag, _material(session, row, row.report)


def _unreported(row: models.Analysis) -> NoReport:
    if AnalysisStatus(row.status) in TERMINAL:
        return NoReport(f"the analysis ended without a report: {row.status}")
    return NoReport(f"there is no report yet: the analysis is {row.status}", retry_after=2)


def _material(session: Session, row: models.Analysis, report: dict[str, object]) -> Material:
    bare = Material(
        analysis_id=row.id,
        filename=row.filename,
        source=_address(row.source_url),
        size_bytes=row.media.size_bytes if row.media else None,
        metadata=row.metadata_,
        report=report,
        intervals=dossier.intervals_of(session, row.id),
        faces=tuple(map(_seen, kept.tracks(session, row.id))),
        stills={index: Still(*found) for index, found in kept.stills(session, row.id).items()},
        spectrogram=row.artifacts.get(kept.SPECTROGRAM),
        erased=row.media_erased_at is not None,
    )
    return replace(bare, frames=kept.frames(session, row.id, chosen(bare)))


def _address(source_url: str | None) -> str | None:
    """The address without user and query, which may be passwords: a page is handed on."""
    if source_url is None:
        return None
    parts = urlsplit(source_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _seen(row: models.Track) -> Seen:
    return Seen(
        id=row.track,
        start=row.start,
        end=row.end,
        frames=row.frames,
        score=row.score,
        thumbnail=row.thumbnail_key,
        lips=LipSync.model_validate(row.lips) if row.lips else None,
    )
