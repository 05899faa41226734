"""What routes ask for: the caller, with the scope that the call needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from api.errors import MissingScope
from api.multipart import ECHOED
from core.errors import InvalidOption
from core.keys import Caller, Scope

#: For the OpenAPI document only: `api.authentication.Authentication` has checked the key long before.
BEARER = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", bearerFormat="dd_…", description="`deepdefend keys create`"
)


def scoped(scope: Scope) -> Callable[[Request], Caller]:
    """A dependency that gives the caller, or answers 403 when the key lacks `scope`."""

    def caller(request: Request) -> Caller:
        found: Caller = request.state.caller
        if scope.value not in found.scopes:
            raise MissingScope(scope.value)
        return found

    return caller


def once(request: Request) -> None:
    """A dependency that refuses a parameter sent twice; else the last one would silently win."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise InvalidOption("a parameter is given twice", code="duplicate_parameter", field=name[:ECHOED])
        seen.add(name)


Reader = Annotated[Caller, Depends(scoped(Scope.ANALYSES_READ))]
Writer = Annotated[Caller, Depends(scoped(Scope.ANALYSES_WRITE))]
StatsReader = Annotated[Caller, Depends(scoped(Scope.STATS))]
