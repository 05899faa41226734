"""The audit log of the caller's own keys, analyses, holds and endpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api import erasure_schemas
from api.dependencies import scoped
from api.erasure_schemas import AUDIT, AuditQuery, Entry
from api.openapi import problems
from api.schemas import Page
from core import audit
from core.db import read
from core.keys import Caller, Scope

router = APIRouter(prefix=AUDIT, tags=["audit"])


@router.get("", responses=problems(400, 401, 403, 422))
def list_audit(
    caller: Annotated[Caller, Depends(scoped(Scope.ADMIN))], query: Annotated[AuditQuery, Query()]
) -> Page[Entry]:
    """Who did what to your things, the newest first. Entries are never changed and never deleted."""
    filters = audit.Filters(**query.model_dump(exclude={"cursor", "limit"}))
    with read() as session:
        page = audit.page(session, caller.owner, filters=filters, cursor=query.cursor, limit=query.limit)
        items = [erasure_schemas.entry(row) for row in page.items]
    return Page(items=items, next_cursor=page.next_cursor)
