"""Runs migrations one process at a time, and gives up rather than block the service."""

from __future__ import annotations

import time

from alembic import context
from sqlalchemy import create_engine, pool, text

from core.models import Base

#: Any constant will do: it names "the migrations of DeepDefend" among this database's advisory locks.
MIGRATION_LOCK = 0x0DD_0001


def run() -> None:
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        # Asked for again and again: one that waited inside Postgres would hold a snapshot, and an index
        # that is built beside the running service waits for every snapshot.
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
            connection.commit()
            time.sleep(0.5)
        connection.execute(text("SET lock_timeout = '5s'"))  # a migration never queues behind a long read
        connection.commit()
        context.configure(
            connection=connection, target_metadata=Base.metadata, transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
