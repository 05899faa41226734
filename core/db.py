"""The database edge: one engine a process, one transaction a request or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.config import settings

#: SQLSTATE of a write on a demoted primary; such a connection must not go back to the pool.
READ_ONLY_TRANSACTION = "25006"


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process, created on first use so that a spawned child makes its own."""
    created = create_engine(
        sqlalchemy_url(),
        hide_parameters=True,  # an error's text reaches logs and people, the rows it was about must not
        pool_pre_ping=True,  # a restarted server costs one reconnect, not one failed request
        pool_recycle=1800,  # a failover behind a name is noticed within half an hour at worst
        pool_size=10,
        max_overflow=20,
        connect_args={
            "application_name": "deepdefend",
            "connect_timeout": 5,
            # A peer that vanished without a word is noticed within a minute, not after two hours.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "target_session_attrs": "read-write",
            "options": "-c statement_timeout=60000 -c idle_in_transaction_session_timeout=120000",
        },
    )
    event.listen(created, "handle_error", _drop_demoted)
    return created


def sqlalchemy_url() -> str:
    """`DEEPDEFEND_DATABASE_URL` with the driver named."""
    url = settings().database_url.get_secret_value()
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def _drop_demoted(context: Any) -> None:
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY_TRANSACTION:
        context.is_disconnect = True


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: committed at the end of the block, rolled back when it raises."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def read() -> Iterator[Session]:
    """A read-only transaction, seen at one moment."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield session


def lock_connection(key: int) -> Any:
    """A raw psycopg2 connection that holds the advisory lock `key`; None when another process holds it."""
    raw = engine().raw_connection()
    connection: Any = raw.driver_connection
    raw.detach()  # never back to the pool: closing it is what gives the lock up
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (key,))
        held = cursor.fetchone()[0]
    connection.commit()
    if held:
        return connection
    connection.close()
    return None


def alembic_config() -> Config:
    """Alembic's settings in code: no alembic.ini, works from a checkout and from a wheel."""
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.attributes["url"] = sqlalchemy_url()
    return config


def migrate(revision: str = "head") -> None:
    """Bring the schema to `revision`. Safe to run from many processes at once."""
    command.upgrade(alembic_config(), revision)


def writable() -> bool:
    """Whether the server answers and takes writes. Raises nothing."""
    try:
        with engine().connect() as connection:
            return not connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
    except DBAPIError:
        return False
