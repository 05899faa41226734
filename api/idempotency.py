"""Holds an `Idempotency-Key` for as long as a request takes, and gives the stored answer again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import uuid4

import anyio
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.sources import Source
from api.upload import Submitted
from core import failpoints, idempotency, logging
from core.analyses import StoredUpload
from core.config import settings
from core.db import read, transaction
from core.domain import Frozen
from core.idempotency import Answer, Claim
from core.keys import Caller

log = logging.get(__name__)
HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
#: Renewals within one lease: two may fail before the key is another's to take.
RENEWALS = 3


class Held(Frozen):
    """A key that this request may use."""

    claim: Claim
    #: The work was done before: what is asked has only to be compared.
    answered: bool


@asynccontextmanager
async def held(request: Request, caller: Caller) -> AsyncIterator[Held | None]:
    """The request's key, claimed before its body is read; None without the header.

    Raises InvalidIdempotencyKey or IdempotencyInProgress. Whatever ends the block without an answer,
    cancelation too, gives the key back.
    """
    offered = request.headers.getlist(HEADER)
    if not offered:
        yield None
        return
    claim = Claim(owner=caller.owner, key=idempotency.parse_key(offered), holder=uuid4().hex)
    try:
        fresh = await run_in_threadpool(_begin, claim)
        failpoints.reach(failpoints.Point.API_CLAIMED)
        async with _renewed(claim, fresh=fresh):
            yield Held(claim=claim, answered=not fresh)
    except BaseException:  # a caller who hung up too: the retry must not wait for the lease
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(_release, claim)
        raise


@asynccontextmanager
async def _renewed(claim: Claim, *, fresh: bool) -> AsyncIterator[None]:
    """Beats the lease of a fresh claim in the background: a slow upload may take hours."""
    beating = asyncio.create_task(_beat(claim)) if fresh else None
    try:
        yield
    finally:
        if beating is not None:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating


async def _beat(claim: Claim) -> None:
    """Until canceled, or until the key is another's: then `settle` refuses, and nothing is lost."""
    alive = True
    while alive:
        await asyncio.sleep(settings().idempotency_lease.total_seconds() / RENEWALS)
        try:
            alive = await run_in_threadpool(_renew, claim)
        except SQLAlchemyError:
            log.warning("a claim could not be renewed", action="idempotency_renewal_failed", exc_info=True)


def _begin(claim: Claim) -> bool:
    with transaction() as session:
        return idempotency.begin(session, claim)


def _renew(claim: Claim) -> bool:
    with transaction() as session:
        return idempotency.renew(session, claim)


def _release(claim: Claim) -> None:
    """What goes wrong here must not hide why it is called; the lease ends the claim then."""
    try:
        with transaction() as session:
            idempotency.release(session, claim)
    except SQLAlchemyError:
        log.warning("a claim is left to its lease", action="idempotency_release_failed", exc_info=True)


def fingerprint(submitted: Submitted) -> str:
    """What a submission asks: the fields, and the file by its bytes and name, its upload or its address."""
    payload: dict[str, Any] = {
        **_source(submitted.source),
        # Without what has its default: a newer version's new option does not make a retry another request.
        "options": submitted.options.model_dump(mode="json", exclude_defaults=True),
        "terms": submitted.terms.model_dump(mode="json", exclude_defaults=True),
        "metadata": submitted.metadata,
    }
    return idempotency.fingerprint("submit_analysis", payload)


def _source(source: Source) -> dict[str, Any]:
    """A file is not known by its key in the storage, which is new for each try."""
    if isinstance(source, StoredUpload):
        return {"sha256": source.sha256, "filename": source.filename}
    return source.model_dump(mode="json")


def replay(claim: Claim, submitted: Submitted) -> Answer:
    """The first answer, marked as a replay. Raises IdempotencyMismatch or IdempotencyInProgress."""
    with read() as session:
        answer = idempotency.recall(session, claim, payload=fingerprint(submitted))
    return answer.model_copy(update={"headers": answer.headers | {REPLAYED: "true"}})
