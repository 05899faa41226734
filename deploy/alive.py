#!/usr/bin/env python3
"""Container health: exit 0 when every named queue has a live worker, or the dispatcher's lock is held.

Usage: `alive QUEUE... | dispatcher`. It asks Postgres, not the worker: one that answers pings without
consuming has been seen, its heartbeat row not. Two replicas of a queue vouch for each other. A bare
kind of work (`video`) is its standard lane's queue; a worker for one lane names it: `video.interactive`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core import db, fleet

DISPATCHER = "dispatcher"
#: A 64-bit advisory lock shows its halves as classid and objid, with objsubid 1.
HELD = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND (classid::bigint << 32 | objid::bigint) = :key"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def silent(session: Session, wanted: Iterable[str]) -> set[str]:
    """Those of `wanted` (queue names, or `dispatcher`) that nobody serves now."""
    served = {queue for process in fleet.live(session) for queue in process.queues}
    missing = set(wanted) - served
    if DISPATCHER in missing and _dispatcher_lives(session):
        missing.remove(DISPATCHER)
    return missing


def _dispatcher_lives(session: Session) -> bool:
    from workers.dispatcher import DISPATCHER_LOCK  # noqa: PLC0415 - Celery, only where it is asked for

    return bool(session.scalar(HELD, {"key": DISPATCHER_LOCK}))


def main(wanted: Sequence[str]) -> int:
    """0 when all are served, 1 when one is not or Postgres does not answer, 2 when nothing was named."""
    if not wanted:
        sys.stderr.write((__doc__ or "").splitlines()[2] + "\n")
        return 2
    try:
        with db.read() as session:
            missing = silent(session, wanted)
    except SQLAlchemyError as error:
        sys.stderr.write(f"Postgres does not answer: {type(error).__name__}\n")
        return 1
    if missing:
        sys.stderr.write(f"nobody serves: {', '.join(sorted(missing))}\n")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
