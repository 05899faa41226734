"""Every migration goes up and down on data, and waits for nobody for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from core import db
from core.models import Base
from tests.conftest import point_settings
from tests.migrations.seeds import SEEDS, A, B, C

Rows = dict[str, list[dict[str, Any]]]
#: What an older schema has no room for, and therefore loses: revision left -> (table, column, value).
LOST = {"0003": ("analyses", "id", C)}


def revisions() -> list[str]:
    """Every revision, the first one first."""
    script = ScriptDirectory.from_config(db.alembic_config())
    return [revision.revision for revision in script.walk_revisions()][::-1]


@pytest.fixture(autouse=True)
def own_database(database: str) -> Iterator[str]:
    """A database of its own, since the schema goes up and down."""
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS on_data WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE on_data"))
    db.engine().dispose()
    url = database.rsplit("/", 1)[0] + "/on_data"
    point_settings(DEEPDEFEND_DATABASE_URL=url)
    db.engine.cache_clear()
    yield url
    db.engine().dispose()
    point_settings(DEEPDEFEND_DATABASE_URL=database)
    db.engine.cache_clear()


def sow(revision: str) -> None:
    """Write what a service of that revision could have written."""
    with db.engine().begin() as connection:
        for table, row in SEEDS[revision]:
            columns = ", ".join(f'"{name}"' for name in row)
            values = ", ".join(f":{name}" for name in row)
            insert = f'INSERT INTO "{table}" ({columns}) VALUES ({values})'  # noqa: S608 - our own names
            connection.execute(text(insert), row)


def rows() -> Rows:
    """Every row of every table as it stands, in the order of their text."""
    with db.engine().connect() as connection:
        return {
            table: sorted(
                (dict(row) for row in connection.execute(text(f'TABLE "{table}"')).mappings()), key=str
            )
            for table in inspect(connection).get_table_names()
        }


def without(before: Rows, revision: str) -> Rows:
    """The rows that survive going down from `revision`."""
    if revision not in LOST:
        return before
    table, column, value = LOST[revision]
    kept = [row for row in before[table] if str(row[column]) != value]
    assert len(kept) == len(before[table]) - 1
    return before | {table: kept}


def test_there_is_data_of_every_revision_and_table() -> None:
    assert list(SEEDS) == revisions()
    assert {table for seeds in SEEDS.values() for table, _ in seeds} == set(Base.metadata.tables)


def test_every_migration_up_and_down_on_data() -> None:
    """Each step down gives back what the older schema can hold, and each step up again loses nothing."""
    for revision in revisions():
        db.migrate(revision)
        sow(revision)
    for revision in revisions()[::-1]:
        before = rows()
        command.downgrade(db.alembic_config(), f"{revision}-1" if revision != "0001" else "base")
        assert shared(rows(), before) == shared(without(before, revision), rows())
        db.migrate(revision)
        again = rows()
        command.downgrade(db.alembic_config(), f"{revision}-1" if revision != "0001" else "base")
        assert shared(rows(), again) == shared(again, rows())
    assert inspect(db.engine()).get_table_names() == ["alembic_version"]


def shared(of: Rows, other: Rows) -> Rows:
    """The part of `of` that both schemas have: their common tables and columns."""
    columns = {table: set(there[0]) for table, there in other.items() if there}
    return {
        table: [{name: row[name] for name in row if name in columns[table]} for row in there]
        for table, there in of.items()
        if table in columns and table != "alembic_version" and there
    }


def test_the_head_fits_the_models_after_an_upgrade_on_data() -> None:
    db.migrate("0001")
    sow("0001")
    db.migrate()
    command.check(db.alembic_config())
    with db.read() as session:
        lanes = session.scalars(text("SELECT DISTINCT lane FROM analyses")).all()
        checks = session.scalars(text("SELECT count(*) FROM pg_constraint WHERE NOT convalidated")).one()
    assert (lanes, checks) == (["standard"], 0)


def test_a_migration_gives_up_behind_a_long_read_and_works_later() -> None:
    """It must not queue: everything that comes after a waiting ALTER TABLE waits as well."""
    db.migrate("0002")
    sow("0001")
    with db.engine().connect() as reader:
        reader.execute(text("SELECT count(*) FROM analyses"))
        with pytest.raises(OperationalError, match="lock timeout"):
            db.migrate("0003")
        with db.engine().begin() as writer:  # the service goes on meanwhile
            writer.execute(text("UPDATE analyses SET version = version + 1"))
    db.migrate("0003")
    assert "lane" in {column["name"] for column in inspect(db.engine()).get_columns("analyses")}


def test_an_index_is_built_while_the_service_writes() -> None:
    db.migrate("0006")
    sow("0001")
    with db.engine().begin() as writer:
        writer.execute(text("UPDATE analyses SET version = 41 WHERE id = :id"), {"id": A})
        migrating = threading.Thread(target=db.migrate)  # waits for this transaction, and blocks none
        migrating.start()
        with db.engine().connect() as other:
            other.execute(text("SET lock_timeout = '5s'"))
            other.execute(text("UPDATE analyses SET version = 42 WHERE id = :id"), {"id": B})
            other.commit()
    migrating.join()
    assert "ix_analyses_media_due" in {
        index["name"] for index in inspect(db.engine()).get_indexes("analyses")
    }


def test_an_interrupted_index_is_built_anew() -> None:
    db.migrate("0006")
    with db.engine().begin() as connection:
        connection.execute(text("CREATE INDEX ix_analyses_key_active ON analyses (version)"))
    db.migrate()
    assert columns_of("ix_analyses_key_active") == ["key_prefix"]


def columns_of(index: str) -> list[str | None]:
    """What an index of `analyses` covers."""
    (found,) = [there for there in inspect(db.engine()).get_indexes("analyses") if there["name"] == index]
    return found["column_names"]
