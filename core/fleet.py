"""Which worker processes live, what they listen to and what they have loaded.

Rows, not `inspect ping`: a worker that answers pings without consuming has been seen for years.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.models import WorkerProcess

#: Three missed beats of ten seconds.
SILENT = timedelta(seconds=35)
#: Rows of the dead are kept this long for people who ask what happened.
FORGOTTEN = timedelta(hours=1)


def announce(
    session: Session,
    *,
    boot_id: str,
    queues: Sequence[str],
    version: str,
    sandbox: str | None = None,
    detectors: Sequence[dict[str, Any]] = (),
) -> None:
    """Say that this process lives and what it has; a second call replaces the first."""
    values = {
        "queues": list(queues),
        "version": version,
        "sandbox": sandbox,
        "detectors": list(detectors),
    }
    statement = insert(WorkerProcess).values(boot_id=boot_id, **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[WorkerProcess.boot_id], set_={**values, "seen_at": func.now()}
        )
    )


def beat(session: Session, boot_id: str) -> bool:
    """Still alive. False when the row is gone and the process must announce itself again."""
    beaten = session.execute(
        update(WorkerProcess)
        .where(WorkerProcess.boot_id == boot_id)
        .values(seen_at=func.now())
        .returning(WorkerProcess.boot_id)
    )
    return beaten.one_or_none() is not None


def leave(session: Session, boot_id: str) -> None:
    """An orderly goodbye: readiness sees it at once."""
    session.execute(delete(WorkerProcess).where(WorkerProcess.boot_id == boot_id))


def live(session: Session) -> Sequence[WorkerProcess]:
    """The processes that have beaten lately, the oldest first."""
    return session.scalars(
        select(WorkerProcess)
        .where(WorkerProcess.seen_at > func.now() - SILENT)
        .order_by(WorkerProcess.started_at, WorkerProcess.boot_id)
    ).all()


def prune(session: Session) -> None:
    """Forget the long dead."""
    session.execute(delete(WorkerProcess).where(WorkerProcess.seen_at < func.now() - FORGOTTEN))
