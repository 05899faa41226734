"""The database, and what only it can tell: schema, clock, workers, dispatcher, webhook secrets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import Connection, select, text
from sqlalchemy.exc import SQLAlchemyError

from cli.doctor.finding import Finding, fail, ok, skipped, warn

#: Checks that have no answer without a database, in their order.
BEHIND: Final = ("schema", "clock of the database", "workers", "dispatcher", "webhook secrets")
#: Seconds. Leases are kept by the database's clock alone, but deadlines and logs are read beside ours.
SLIGHT: Final = 5.0
WRONG: Final = 300.0  # tokens, TLS and signatures begin to fail
NTP: Final = "run a time service (systemd-timesyncd, chrony) on both machines"


def look() -> Iterator[Finding]:
    """Everything, from one connection."""
    from core import db  # noqa: PLC0415 - reads settings

    try:
        with db.engine().connect() as connection:
            yield _server(connection)
            schema = _schema(connection)
            yield schema
            yield _clock(connection)
            if schema.state != "ok":
                yield from (skipped(name, "not known before the schema is right") for name in BEHIND[2:])
                return
            for check in (_workers, _dispatcher, _webhook_secrets):
                yield _settled(check, connection)
    except SQLAlchemyError as error:
        yield fail(
            "database",
            f"it does not answer: {_short(error)}",
            "Nothing is accepted and nothing is worked on.",
            "start it, or set DEEPDEFEND_DATABASE_URL to where it is",
        )
        yield from (skipped(name, "not known without the database") for name in BEHIND)


def _settled(check: Callable[[Connection], Finding], connection: Connection) -> Finding:
    """A check of its own in a transaction of its own."""
    connection.rollback()
    return check(connection)


def _short(error: SQLAlchemyError) -> str:
    """What the driver says, in one line; SQLAlchemy's own text would add the statement."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _server(connection: Connection) -> Finding:
    """Version, and whether a write goes through: a demoted primary answers every SELECT."""
    version = connection.scalar(text("SHOW server_version"))
    try:
        connection.execute(text("CREATE TEMPORARY TABLE deepdefend_doctor (n integer) ON COMMIT DROP"))
        connection.execute(text("INSERT INTO deepdefend_doctor VALUES (1)"))
    except SQLAlchemyError as error:
        return fail(
            "database",
            f"PostgreSQL {version} takes no writes: {_short(error)}",
            "Nothing is accepted and nothing is worked on.",
            "point DEEPDEFEND_DATABASE_URL at the primary, with a user who may write",
            version=version,
        )
    finally:
        connection.rollback()
    return ok("database", f"PostgreSQL {version} takes writes", version=version)


def _schema(connection: Connection) -> Finding:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from core import db  # noqa: PLC0415

    present = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(db.alembic_config())
    head = scripts.get_current_head()
    if present == head:
        return ok("schema", f"at head, {head}", revision=present)
    known = present is None or any(script.revision == present for script in scripts.walk_revisions())
    return fail(
        "schema",
        f"at {present or 'nothing'}, this version needs {head}",
        "The service does not start with it.",
        "deepdefend migrate" if known else "run the newer version that made this schema",
        revision=present,
        head=head,
    )


def _clock(connection: Connection) -> Finding:
    before = time.time()
    theirs = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    return skew("clock of the database", theirs - (before + time.time()) / 2)


def skew(check: str, seconds: float) -> Finding:
    """What a difference of clocks means; positive: theirs is ahead."""
    said = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    if abs(seconds) >= WRONG:
        return fail(check, said, "Signed requests are refused and deadlines are wrong.", NTP, seconds=seconds)
    if abs(seconds) >= SLIGHT:
        return warn(check, said, "Times in logs and reports do not fit together.", NTP, seconds=seconds)
    return ok(check, "it agrees with ours", seconds=round(seconds, 3))


def _workers(connection: Connection) -> Finding:
    """Live processes by queue, from their rows: a worker can answer pings and consume nothing."""
    from sqlalchemy.orm import Session  # noqa: PLC0415

    from core import fleet  # noqa: PLC0415
    from core.queue import names_of  # noqa: PLC0415

    with Session(connection) as session:
        live = fleet.live(session)
        counts = {name: sum(name in process.queues for process in live) for name in names_of()}
        levels = sorted({process.sandbox for process in live if process.sandbox})
        versions = sorted({process.version for process in live})
    idle = [name for name, count in counts.items() if not count]
    facts = {"queues": counts, "sandboxes": levels, "versions": versions}
    if idle:
        return fail(
            "workers",
            f"nobody works on {', '.join(idle)}",
            "What is owed to these queues waits.",
            f"deepdefend worker {' '.join(dict.fromkeys(name.partition('.')[0] for name in idle))}",
            **facts,
        )
    return ok("workers", f"{len(live)} processes, decoding under {', '.join(levels)}", **facts)


def _dispatcher(connection: Connection) -> Finding:
    from workers.dispatcher import DISPATCHER_LOCK  # noqa: PLC0415 - imports Celery

    held = connection.scalar(
        text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = :high AND objid = :low"
        ),
        {"high": DISPATCHER_LOCK >> 32, "low": DISPATCHER_LOCK & 0xFFFFFFFF},
    )
    if not held:
        return fail(
            "dispatcher",
            "none holds the lock",
            "Accepted work waits, webhooks are not sent, nothing is healed.",
            "deepdefend dispatcher",
        )
    return ok("dispatcher", "one is at work")


def _webhook_secrets(connection: Connection) -> Finding:
    """What encrypts them, and whether today's keys open what is stored."""
    from core.config import settings  # noqa: PLC0415
    from core.models import WebhookEndpoint  # noqa: PLC0415
    from core.webhooks import secrets  # noqa: PLC0415

    stored = connection.scalars(select(WebhookEndpoint.secret)).all()
    lost = sum(not secrets.is_readable(sealed) for sealed in stored)
    own = len(settings().webhooks.encryption_keys)
    by = f"{own} keys of their own" if own else "the secret key"
    if lost:
        return fail(
            "webhook secrets",
            f"{lost} of {len(stored)} cannot be read with {by}",
            "Webhooks to these endpoints cannot be signed and are not sent.",
            "put the former key into DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS, behind the new one",
            unreadable=lost,
        )
    return ok("webhook secrets", f"{len(stored)} stored, encrypted by {by}", stored=len(stored))
