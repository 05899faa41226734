"""API keys: `dd_<8 characters>_<32 characters><6 of checksum>`; only a keyed hash is kept.

The checksum lets a typo, or a scanner's false find, be told from a real key without a query.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from core import audit
from core.config import settings
from core.domain import Frozen
from core.errors import NotFound, Unauthorized
from core.models import ApiKey

ALPHABET: Final = string.digits + string.ascii_letters
PREFIX_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 8, 32, 6
#: `last_used_at` is for people looking for dead keys: a minute's precision saves a write a request.
LAST_USED_PRECISION = timedelta(minutes=1)


class Scope(StrEnum):
    """What a key may do."""

    ANALYSES_READ = "analyses:read"
    ANALYSES_WRITE = "analyses:write"
    STATS = "stats"
    WEBHOOKS = "webhooks"
    ADMIN = "admin"  #: legal holds and the audit log


#: What a new key may do unless it is said otherwise: everything but `admin`.
ORDINARY: Final = tuple(scope for scope in Scope if scope is not Scope.ADMIN)


class Caller(Frozen):
    """Who is asking, once the key has been checked."""

    key_id: str
    owner: str
    scopes: frozenset[str]


def create(
    session: Session,
    *,
    name: str,
    owner: str | None = None,
    scopes: Sequence[Scope] = ORDINARY,
    expires_at: datetime | None = None,
    actor: str = audit.COMMAND_LINE,
) -> tuple[ApiKey, str]:
    """Make a key. The second value is the key itself, which nobody can show again.

    Keys of one `owner` see the same analyses; without one the key is its own owner. `actor` is who the
    audit log says made it.
    """
    prefix, secret = _random(PREFIX_LENGTH), _random(SECRET_LENGTH)
    row = ApiKey(
        prefix=prefix,
        digest=_digest(prefix, secret),
        name=name,
        owner=owner or prefix,
        scopes=[scope.value for scope in scopes],
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    detail = {
        "name": name,
        "scopes": row.scopes,
        "expires_at": expires_at.isoformat() if expires_at else None,
    }
    _record(session, row, audit.Action.KEY_CREATED, actor, detail)
    return row, f"dd_{prefix}_{secret}{_checksum(prefix + secret)}"


def _record(
    session: Session, row: ApiKey, action: audit.Action, actor: str, detail: dict[str, Any] | None = None
) -> None:
    audit.record(session, actor=actor, owner=row.owner, action=action, subject=row.prefix, detail=detail)


def authenticate(session: Session, presented: str) -> Caller:
    """The caller behind a key. Raises Unauthorized, in the same words whatever was wrong."""
    prefix, secret = _parse(presented)
    found = select(ApiKey, _unseen()).where(ApiKey.prefix == prefix, usable())
    row, unseen = session.execute(found).one_or_none() or (None, False)
    # Hash also when there is no such prefix, so that the answer takes as long.
    matches = hmac.compare_digest(row.digest if row else "", _digest(prefix, secret))
    if row is None or not matches:
        raise Unauthorized
    if unseen:  # asked first: most requests spare themselves the statement
        _touch(session, row)
    return Caller(key_id=row.prefix, owner=row.owner, scopes=frozenset(row.scopes))


def usable() -> ColumnElement[bool]:
    """SQL: the key is neither revoked nor expired."""
    return ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())


def revoke(session: Session, prefix: str, *, actor: str = audit.COMMAND_LINE) -> ApiKey:
    """Revoke at once, by the key's public prefix. Raises NotFound; a second call changes nothing."""
    row = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix).with_for_update())
    if row is None:
        raise NotFound(f"no API key with the prefix {prefix}")
    if row.revoked_at is None:
        row.revoked_at = session.scalar(select(func.now()))
        session.flush()
        _record(session, row, audit.Action.KEY_REVOKED, actor)
    return row


def list_keys(session: Session) -> Sequence[ApiKey]:
    """Every key, the newest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id.desc())).all()


def _unseen() -> ColumnElement[bool]:
    """SQL: its last use is not known to the minute."""
    return or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - LAST_USED_PRECISION)


def _touch(session: Session, row: ApiKey) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == row.id, _unseen()).values(last_used_at=func.now()))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _digest(prefix: str, secret: str) -> str:
    key = settings().secret_key.get_secret_value().encode()
    return hmac.new(key, f"{prefix}_{secret}".encode(), hashlib.sha256).hexdigest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits += ALPHABET[digit]
    return digits


def _parse(presented: str) -> tuple[str, str]:
    parts = presented.split("_")
    lengths = (2, PREFIX_LENGTH, SECRET_LENGTH + CHECKSUM_LENGTH)
    shaped = (
        tuple(map(len, parts)) == lengths and parts[0] == "dd" and set(parts[1] + parts[2]) <= set(ALPHABET)
    )
    if not shaped or _checksum(parts[1] + parts[2][:SECRET_LENGTH]) != parts[2][SECRET_LENGTH:]:
        raise Unauthorized
    return parts[1], parts[2][:SECRET_LENGTH]
