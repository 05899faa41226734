"""The landing page and the interactive documentation, all from this server.

FastAPI's own `/docs` loads Swagger UI from a CDN, which a closed network blocks and a strict
Content-Security-Policy should.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

WEB: Final = Path(__file__).parent.parent / "web"
#: The package carries Swagger UI's released files; of its code we use nothing.
SWAGGER: Final = Path(str(files("fastapi_offline"))) / "static"

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: Swagger UI runs its script and calls this API; it styles elements through the DOM, which needs no leave.
DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: An upgrade changes these under the same names, so a browser asks again; the ETag makes that cheap.
REVALIDATE: Final = {"Cache-Control": "no-cache"}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def get_landing() -> FileResponse:
    """What this is and where its doors are."""
    return _page("index.html", PAGE_POLICY)


@router.get("/docs")
async def get_docs() -> FileResponse:
    """Swagger UI over `/openapi.json`."""
    return _page("docs.html", DOCS_POLICY)


@router.get("/assets/style.css")
async def get_style() -> FileResponse:
    """Style of the landing page."""
    return FileResponse(WEB / "style.css", headers=REVALIDATE)


@router.get("/assets/docs.js")
async def get_docs_script() -> FileResponse:
    """Starts Swagger UI: a file, because the policy allows no script in the page."""
    return FileResponse(WEB / "docs.js", headers=REVALIDATE)


@router.get("/assets/swagger-ui.js")
async def get_swagger_script() -> FileResponse:
    """Swagger UI itself."""
    return FileResponse(SWAGGER / "swagger-ui-bundle.js", headers=REVALIDATE)


@router.get("/assets/swagger-ui.css")
async def get_swagger_style() -> FileResponse:
    """Swagger UI's style."""
    return FileResponse(SWAGGER / "swagger-ui.css", headers=REVALIDATE)


def _page(name: str, policy: str) -> FileResponse:
    return FileResponse(WEB / name, headers={**REVALIDATE, "Content-Security-Policy": policy})
