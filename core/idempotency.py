"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-08): one key, one piece of work, one answer.

A request claims its key before its body is read and renews the claim's lease while the body arrives;
the answer is stored in the transaction that does the work, so there is never one without the other.
A claim ends by `settle`, by `release` when the request fails, or, when its process was killed, by its
lease: the next request then takes it over, and the former holder's `settle` finds it gone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Executable, and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from core.config import settings
from core.domain import Frozen
from core.errors import IdempotencyInProgress, IdempotencyMismatch, InvalidIdempotencyKey
from core.models import IdempotencyKey

#: An RFC 8941 string, or the same bare as most clients send it; visible ASCII. Also in the OpenAPI document.
PATTERN: Final = r'^(?:"(?:[!#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--:<-\[\]-~]{1,255})$'
#: The most seconds a caller is told to wait: a healthy upload may end long before its lease.
LONGEST_WAIT = 5


class State(StrEnum):
    """What a key stands for."""

    RUNNING = "running"
    STORED = "stored"


class Claim(Frozen):
    """One request's hold on a key; `holder` is new for each request."""

    owner: str
    key: str
    holder: str


class Answer(Frozen):
    """What the first request was told."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def parse_key(offered: Sequence[str]) -> str:
    """The key in the header's values. Raises InvalidIdempotencyKey, also for two headers."""
    value = offered[0].strip(" \t") if len(offered) == 1 else ""
    if re.fullmatch(PATTERN, value) is None:
        raise InvalidIdempotencyKey
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def fingerprint(operation: str, payload: Mapping[str, Any]) -> str:
    """A digest of what is asked; the order of a JSON object's members does not count."""
    text = json.dumps([operation, payload], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def begin(session: Session, claim: Claim) -> bool:
    """Take the key. True: do the work; False: an answer is stored, see `recall`.

    Raises IdempotencyInProgress while another request holds it.
    """
    fresh = {
        "state": State.RUNNING.value,
        "holder": claim.holder,
        "lease_expires": func.now() + settings().idempotency_lease,
        "expires_at": func.now() + settings().idempotency_ttl,
        "created_at": func.now(),
        "fingerprint": None,
        "status": None,
        "headers": None,
        "body": None,
        "analysis_id": None,
    }
    taken = session.scalar(
        insert(IdempotencyKey)
        .values(id=uuid7(), owner=claim.owner, key=claim.key, **fresh)
        .on_conflict_do_update(
            index_elements=[IdempotencyKey.owner, IdempotencyKey.key], set_=fresh, where=_over()
        )
        .returning(IdempotencyKey.holder)
    )
    if taken is not None:
        return True
    # A row that vanishes here was released a moment ago: the caller comes again and finds it free.
    row = session.execute(
        select(IdempotencyKey.state, IdempotencyKey.lease_expires, func.now()).where(*_named(claim))
    ).one_or_none()
    if row is not None and row[0] == State.STORED:
        return False
    raise in_progress(row[1] - row[2] if row and row[1] else None)


def renew(session: Session, claim: Claim) -> bool:
    """The request is alive; False when the key is no longer its."""
    lease = func.now() + settings().idempotency_lease
    return _changed(session, update(IdempotencyKey).where(*_held(claim)).values(lease_expires=lease))


def settle(
    session: Session, claim: Claim, *, payload: str, answer: Answer, analysis_id: UUID | None = None
) -> None:
    """Store the answer in the transaction that did the work; `payload` is its fingerprint.

    Raises IdempotencyInProgress when another request has taken the key over: roll back then.
    """
    stored = update(IdempotencyKey).where(*_held(claim))
    if not _changed(
        session,
        stored.values(
            state=State.STORED.value,
            holder=None,
            lease_expires=None,
            fingerprint=payload,
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            analysis_id=analysis_id,
            expires_at=func.now() + settings().idempotency_ttl,
        ),
    ):
        raise in_progress()


def recall(session: Session, claim: Claim, *, payload: str) -> Answer:
    """The stored answer to the same payload.

    Raises IdempotencyMismatch for another payload, IdempotencyInProgress when the answer has just gone.
    """
    row = session.scalar(
        select(IdempotencyKey).where(*_named(claim), IdempotencyKey.state == State.STORED.value)
    )
    if row is None or row.status is None:
        raise in_progress()
    if row.fingerprint != payload:
        raise IdempotencyMismatch
    return Answer(status=row.status, headers=row.headers or {}, body=row.body or {})


def is_answered(session: Session, owner: str, key: str) -> bool:
    """Whether asking again would give a stored answer: that is no new work."""
    query = select(IdempotencyKey.id).where(
        IdempotencyKey.owner == owner, IdempotencyKey.key == key, IdempotencyKey.state == State.STORED.value
    )
    return session.scalar(query.where(IdempotencyKey.expires_at >= func.now())) is not None


def release(session: Session, claim: Claim) -> bool:
    """The request failed: its retry starts anew. A stored answer, or another's claim, stays."""
    return _changed(session, delete(IdempotencyKey).where(*_held(claim)))


def prune(session: Session) -> int:
    """Forget the keys whose time is over; how many there were."""
    over = and_(IdempotencyKey.expires_at < func.now(), _over())
    result = session.execute(delete(IdempotencyKey).where(over).execution_options(synchronize_session=False))
    return result.rowcount if isinstance(result, CursorResult) else 0


def in_progress(lease_left: timedelta | None = None) -> IdempotencyInProgress:
    """The refusal, with the whole seconds to wait: to the end of the lease, within 1 to LONGEST_WAIT."""
    left = math.ceil(lease_left.total_seconds()) if lease_left is not None else 1
    return IdempotencyInProgress(retry_after=min(max(left, 1), LONGEST_WAIT))


def _over() -> Any:
    """Rows that bind nobody: answers past their expiry, claims past their lease."""
    return or_(
        and_(IdempotencyKey.state == State.STORED.value, IdempotencyKey.expires_at < func.now()),
        and_(IdempotencyKey.state == State.RUNNING.value, IdempotencyKey.lease_expires < func.now()),
    )


def _named(claim: Claim) -> tuple[Any, ...]:
    return IdempotencyKey.owner == claim.owner, IdempotencyKey.key == claim.key


def _held(claim: Claim) -> tuple[Any, ...]:
    return *_named(claim), IdempotencyKey.holder == claim.holder


def _changed(session: Session, statement: Executable) -> bool:
    result = session.execute(statement.execution_options(synchronize_session=False))
    return isinstance(result, CursorResult) and result.rowcount == 1
