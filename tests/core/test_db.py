"""The database edge: commit, roll back, locks, migrations."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from core import db
from core.config import settings
from core.models import Base
from tests.conftest import point_settings


def count() -> int:
    with db.read() as session:
        return int(session.execute(text("SELECT count(*) FROM worker_processes")).scalar_one())


INSERT = text("INSERT INTO worker_processes (boot_id, queues, version) VALUES ('x', '[]', '1')")


def test_a_transaction_commits_at_its_end_and_rolls_back_when_it_raises(clean_database: str) -> None:
    with db.transaction() as session:
        session.execute(INSERT)
    assert count() == 1
    with pytest.raises(DBAPIError), db.transaction() as session:
        session.execute(text("WITH gone AS (DELETE FROM worker_processes RETURNING 1) SELECT 1 / 0"))
    assert clean_database
    assert count() == 1


def test_a_read_cannot_write(clean_database: str) -> None:
    assert clean_database
    with pytest.raises(DBAPIError, match="read-only"), db.read() as session:
        session.execute(INSERT)


def test_a_read_sees_one_moment(clean_database: str) -> None:
    assert clean_database
    with db.read() as session:
        before = session.execute(text("SELECT count(*) FROM worker_processes")).scalar_one()
        with db.transaction() as other:
            other.execute(INSERT)
        after = session.execute(text("SELECT count(*) FROM worker_processes")).scalar_one()
    assert (before, after) == (0, 0)
    assert count() == 1


def test_a_connection_that_turned_read_only_is_thrown_away(clean_database: str) -> None:
    assert clean_database
    with db.engine().connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(text("SET TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError) as caught:
            connection.execute(INSERT)
        assert caught.value.connection_invalidated
    with db.engine().connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid


def test_one_holder_of_a_lock(database: str) -> None:
    assert database
    first = db.lock_connection(4711)
    assert first is not None
    assert db.lock_connection(4711) is None
    other = db.lock_connection(4712)
    assert other is not None
    first.close()
    with db.transaction() as session:  # waits until the server has noticed the closing
        session.execute(text("SELECT pg_advisory_xact_lock(4711)"))
    other.close()


def test_the_server_takes_writes_or_not(database: str) -> None:
    assert db.writable()
    point_settings(DEEPDEFEND_DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none")
    db.engine.cache_clear()
    try:
        assert not db.writable()
    finally:
        point_settings(DEEPDEFEND_DATABASE_URL=database)
        db.engine.cache_clear()


def test_the_models_say_what_the_migrations_build(database: str) -> None:
    assert database
    command.check(db.alembic_config())
    tables = set(inspect(db.engine()).get_table_names())
    assert tables == {*Base.metadata.tables, "alembic_version"}


@pytest.fixture
def scratch_database(database: str) -> object:
    """A database of its own, since the schema goes up and down."""
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS updown"))
        connection.execute(text("CREATE DATABASE updown"))
    point_settings(DEEPDEFEND_DATABASE_URL=database.rsplit("/", 1)[0] + "/updown")
    db.engine.cache_clear()
    yield database
    db.engine().dispose()
    point_settings(DEEPDEFEND_DATABASE_URL=database)
    db.engine.cache_clear()


def test_migrations_go_up_down_and_up(scratch_database: str) -> None:
    assert settings().database_url.get_secret_value() != scratch_database
    db.migrate()
    command.downgrade(db.alembic_config(), "base")
    assert inspect(db.engine()).get_table_names() == ["alembic_version"]
    db.migrate()
    assert set(Base.metadata.tables) < set(inspect(db.engine()).get_table_names())


def test_migrations_started_twice_at_once_both_succeed(scratch_database: str) -> None:
    assert scratch_database
    command_line = [sys.executable, "-c", "from core import db; db.migrate()"]
    started = [subprocess.Popen(command_line) for _ in range(2)]
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    assert set(Base.metadata.tables) < set(inspect(db.engine()).get_table_names())
