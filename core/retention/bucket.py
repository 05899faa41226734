"""Whose bucket it is. Nobody may clear up in a bucket whose objects another database names.

A marker in the bucket and an entry of the audit log carry the same id. A fresh or a foreign database
has another one, or none: to it every object would look like an orphan.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import audit
from core.db import read, transaction
from core.errors import NotFound
from core.models import AuditEntry
from core.storage import storage

MARKER: Final = "installation"
#: Of the advisory lock under which a bucket is claimed.
CLAIMING: Final = 0x0DD_0005


def is_ours() -> bool:
    """Whether this installation may clear up; claims a bucket that nobody has. Raises StorageError.

    Killed between the entry and the marker, the next call writes the marker of that entry.
    """
    marked = _marker()
    with read() as session:
        identity = _identity(session)
    if marked is not None:
        return marked == identity
    with transaction() as session:
        identity = _claim(session)
    upload = storage().open_upload(MARKER)
    upload.write(identity.encode())
    upload.complete()
    return True


def _marker() -> str | None:
    try:
        return storage().read(MARKER).decode("ascii", "replace")
    except NotFound:
        return None


def _identity(session: Session) -> str | None:
    claims = select(AuditEntry.subject).where(AuditEntry.action == audit.Action.STORAGE_CLAIMED.value)
    return session.scalar(claims.order_by(AuditEntry.at, AuditEntry.id).limit(1))


def _claim(session: Session) -> str:
    """The id of this installation, given to it now if it has none."""
    session.execute(select(func.pg_advisory_xact_lock(CLAIMING)))  # two dispatchers, one id
    return (
        _identity(session)
        or audit.record(
            session,
            actor=audit.DISPATCHER,
            owner=None,
            action=audit.Action.STORAGE_CLAIMED,
            subject=uuid4(),
        ).subject
    )
