"""The first page and the interactive documentation, all from this server.

FastAPI's own `/docs` loads Swagger UI from a CDN, which a closed network blocks and a strict
Content-Security-Policy should.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

from api.page.render import STYLE_HASH
from core.errors import NotFound

WEB: Final = Path(__file__).parent.parent / "web"
#: The package carries Swagger UI's released files; of its code we use nothing.
SWAGGER: Final = Path(str(files("fastapi_offline"))) / "static"
#: What the pages load: name -> file.
ASSETS: Final = {
    **{name: WEB / name for name in ("style.css", "app.js", "api.js", "docs.js")},
    "swagger-ui.js": SWAGGER / "swagger-ui-bundle.js",
    "swagger-ui.css": SWAGGER / "swagger-ui.css",
}

#: A report is shown in a frame without scripts, whose blob: address inherits this policy: hence the hash of
#: its one style, and its data: pictures.
PAGE_POLICY: Final = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {STYLE_HASH}; img-src data:; "
    "connect-src 'self'; frame-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
    """Takes a file, shows how far it is, lands on its report; and where this server's doors are."""
    return _page("index.html", PAGE_POLICY)


@router.get("/docs")
async def get_docs() -> FileResponse:
    """Swagger UI over `/openapi.json`."""
    return _page("docs.html", DOCS_POLICY)


@router.get("/assets/{name}")
async def get_asset(name: str) -> FileResponse:
    """A script or style of the pages: files, because the policies allow nothing inline."""
    if name not in ASSETS:
        raise NotFound
    return FileResponse(ASSETS[name], headers=REVALIDATE)


def _page(name: str, policy: str) -> FileResponse:
    return FileResponse(WEB / name, headers={**REVALIDATE, "Content-Security-Policy": policy})
