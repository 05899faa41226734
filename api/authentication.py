"""Everything below `/v1/` needs a key that has quota left; both are settled before a byte of the body.

Key and quota are one transaction, so a database that is away lets nobody in and refuses nobody for
good: the answer is 503.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import NotAuthenticated, respond
from api.strangers import Strangers
from core import idempotency, keys, quotas
from core.config import AdmissionSettings, settings
from core.db import transaction
from core.domain import Frozen
from core.errors import InvalidIdempotencyKey, TooManyRequests, Unauthorized
from core.keys import Caller
from core.quotas import Policy, Standing

PROTECTED: Final = "/v1/"
#: What creates an analysis; and what accepts work, which promises an upload or an analysis.
SUBMITTING: Final = frozenset({("POST", "/v1/analyses")})
ACCEPTING: Final = SUBMITTING | {("POST", "/v1/uploads")}
#: Creates an analysis of a file that is there already, without a body worth the name.
ASKING_AGAIN: Final = re.compile(r"/v1/analyses/[^/]+/stability")


class Entry(Frozen):
    """Who came in, and where they stand."""

    caller: Caller
    standings: tuple[Standing, ...]
    #: Asks for the stored answer of an accepted submission: no new work, whatever else is full.
    replay: bool = False

    def refusal(self) -> TooManyRequests | None:
        """What to answer when a quota is used up."""
        used_up = [standing for standing in self.standings if not standing.allowed]
        return quotas.refusal(used_up[-1]) if used_up else None


def creates_analysis(call: tuple[str, str]) -> bool:
    """Whether the call, when it is served, leaves one more analysis to be worked on."""
    method, path = call
    return call in SUBMITTING or (method == "POST" and ASKING_AGAIN.fullmatch(path) is not None)


def accepts_work(call: tuple[str, str]) -> bool:
    """Whether the call counts as a submission."""
    return call in ACCEPTING or creates_analysis(call)


def call_of(scope: Scope) -> tuple[str, str]:
    """Method and path as the routes see them: a server may run below a prefix."""
    return scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))


class Authentication:
    """Puts the caller into `request.state.caller` and says on every answer what is left of the quotas."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._strangers = Strangers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not call_of(scope)[1].startswith(PROTECTED):
            await self._app(scope, receive, send)
            return
        try:
            entry = await self._enter(scope)
        except (Unauthorized, TooManyRequests) as error:
            await respond(scope, error)(scope, receive, send)
            return
        scope["state"].update(caller=entry.caller, replay=entry.replay)
        dressed = _told(send, rate_limit_headers(entry.standings, settings().admission))
        refusal = entry.refusal()
        if refusal is not None:
            await respond(scope, refusal)(scope, receive, dressed)
            return
        await self._app(scope, receive, dressed)

    async def _enter(self, scope: Scope) -> Entry:
        """Raises NotAuthenticated, and TooManyRequests for who presents wrong keys again and again."""
        headers = Headers(scope=scope)
        presented = headers.getlist("authorization")
        self._strangers.check(scope, presented)
        wanted = headers.getlist("idempotency-key")
        try:
            entry = await anyio.to_thread.run_sync(_identify, presented, call_of(scope), wanted)
        except Unauthorized as error:
            self._strangers.refused(scope, presented)
            raise NotAuthenticated(presented=bool(presented)) from error
        self._strangers.known(presented)
        return entry


def _identify(presented: Sequence[str], call: tuple[str, str], wanted: Sequence[str]) -> Entry:
    """The caller of an `Authorization` header. Raises Unauthorized, also for two headers."""
    scheme, _, key = presented[0].partition(" ") if len(presented) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise Unauthorized
    with transaction() as session:
        caller = keys.authenticate(session, key.strip(" "))
        standings = quotas.spend(session, caller.key_id, submission=accepts_work(call))
        if not creates_analysis(call) or not standings[-1].allowed:
            return Entry(caller=caller, standings=standings)
        again = _key_of(wanted)
        if again is not None and idempotency.is_answered(session, caller.owner, again):
            return Entry(caller=caller, standings=standings, replay=True)
        return Entry(caller=caller, standings=(*standings, quotas.in_flight(session, caller.key_id)))


def _key_of(wanted: Sequence[str]) -> str | None:
    """The Idempotency-Key, when it is one; the route complains about any other."""
    try:
        return idempotency.parse_key(wanted) if wanted else None
    except InvalidIdempotencyKey:
        return None


def rate_limit_headers(standings: Sequence[Standing], admission: AdmissionSettings) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11)."""
    windows = f"w={admission.window.total_seconds():.0f}"
    policies = (
        f'"{Policy.REQUESTS}";q={admission.requests};{windows}',
        f'"{Policy.SUBMISSIONS}";q={admission.submissions};{windows}',
        f'"{Policy.IN_FLIGHT}";q={admission.in_flight};qu="concurrent-requests"',
    )
    left = (
        f'"{one.policy}";r={one.left}' + (f";t={one.reset}" if one.reset is not None else "")
        for one in standings
    )
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}


def _told(send: Send, headers: dict[str, str]) -> Send:
    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return telling
