"""Real servers for the tests, started when the first test asks for one.

`database` (a migrated database), `broker` (an empty Valkey database) and `bucket` (an S3 bucket)
point `settings()` at themselves; `clean_database` also empties every table before the test. Under
pytest-xdist the servers run once in the controller and every worker has its own of each.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from hypothesis import settings as hypothesis_settings
from sqlalchemy import text

from cli.stack.server import Server
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from core import db, storage
from core.config import settings
from core.models import Base

# Read by settings() when a test forgets its fixture: a port where nothing listens, never a real server.
NOWHERE = "127.0.0.1:1"
os.environ.update(
    DEEPDEFEND_DATABASE_URL=f"postgresql://nobody:none@{NOWHERE}/none",
    DEEPDEFEND_BROKER_URL=f"redis://{NOWHERE}/0",
    DEEPDEFEND_SECRET_KEY=secrets.token_hex(32),
    DEEPDEFEND_S3__ENDPOINT_URL=f"http://{NOWHERE}",
    DEEPDEFEND_S3__ACCESS_KEY_ID="none",
    DEEPDEFEND_S3__SECRET_ACCESS_KEY="none",
)
for name in ("GOOGLE_API_KEY", "DEEPDEFEND_ALLOW_TEST_DETECTORS", "DEEPDEFEND_MODELS__DIR"):
    os.environ.pop(name, None)  # the developer's own settings must not change what tests see

# A test never times: a slow machine is not a failure.
hypothesis_settings.register_profile("deepdefend", deadline=None, max_examples=50)
hypothesis_settings.load_profile("deepdefend")

KINDS: dict[str, Callable[[Path], Server]] = {
    "postgres": partial(PostgresServer, durable=False),
    "valkey": ValkeyServer,
    "s3": S3Server,
}
ROOMS = ("api", "cli", "core", "evaluation", "training", "workers")
FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure_node(node: Any) -> None:
    """Under xdist: hand each worker the servers that the controller runs."""
    stash = node.config.stash
    if FOLDER not in stash:
        stash[FOLDER] = tempfile.TemporaryDirectory(prefix="deepdefend-tests-")
        for kind in KINDS:
            running = start(kind, Path(stash[FOLDER].name))
            node.config.add_cleanup(running.stop)
        node.config.add_cleanup(stash[FOLDER].cleanup)
    node.workerinput["deepdefend_servers"] = stash[FOLDER].name


def start(kind: str, folder: Path) -> Server:
    """A running server of that kind with its files in `folder`."""
    server = KINDS[kind](folder)
    server.start()
    return server


def running(kind: str, request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The controller's server under xdist, else one of our own."""
    shared = getattr(request.config, "workerinput", {}).get("deepdefend_servers")
    if shared:
        server = KINDS[kind](Path(shared))
        server.ports = server.state.read()["ports"]
        yield server
    else:
        server = start(kind, factory.mktemp("servers"))
        yield server
        server.stop()


@pytest.fixture(autouse=True)
def rooms_stay_audible() -> Iterator[None]:
    """A test that silences a room for good would blind whatever test later looks for a line of its log."""
    yield
    silenced = [name for name in ROOMS if logging.getLogger(name).level != logging.NOTSET]
    for name in silenced:
        logging.getLogger(name).setLevel(logging.NOTSET)
    assert silenced == [], "these loggers were left with a level of their own"


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    """A PostgreSQL server; `.database_url(name)`."""
    yield from running("postgres", request, tmp_path_factory)


@pytest.fixture(scope="session")
def valkey(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ValkeyServer]:
    """A Valkey server; `.database_url(number)`."""
    yield from running("valkey", request, tmp_path_factory)


@pytest.fixture(scope="session")
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server; `.client()`, `.make_bucket(name)`."""
    yield from running("s3", request, tmp_path_factory)


@pytest.fixture(scope="session")
def lane(request: pytest.FixtureRequest) -> int:
    """Number of this xdist worker, 0 without xdist: what keeps databases and buckets apart."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    return int(worker.removeprefix("gw"))


@pytest.fixture(scope="session")
def database(postgres: PostgresServer, lane: int) -> str:
    """URL of a database built by the migrations; `core.db` uses it from here on."""
    name = f"test_{lane}"
    connection = psycopg2.connect(postgres.database_url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    url = postgres.database_url(name)
    point_settings(DEEPDEFEND_DATABASE_URL=url)
    db.engine.cache_clear()
    db.migrate()
    return url


@pytest.fixture
def clean_database(database: str) -> str:
    """The database with every table empty."""
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with db.transaction() as session:
        session.execute(text(f"TRUNCATE {names} CASCADE"))
    return database


@pytest.fixture
def broker(valkey: ValkeyServer, lane: int) -> str:
    """URL of an empty broker database."""
    url = valkey.database_url(lane)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    point_settings(DEEPDEFEND_BROKER_URL=url)
    return url


@pytest.fixture(scope="session")
def bucket(s3: S3Server, lane: int) -> str:
    """Name of an S3 bucket; `core.storage` uses it from here on."""
    name = f"test-{lane}"
    assert s3.make_bucket(name)
    point_settings(
        DEEPDEFEND_S3__ENDPOINT_URL=s3.url,
        DEEPDEFEND_S3__BUCKET=name,
        DEEPDEFEND_S3__ACCESS_KEY_ID=s3.access_key_id,
        DEEPDEFEND_S3__SECRET_ACCESS_KEY=s3.secret_access_key,
    )
    storage.storage.cache_clear()
    return name


def point_settings(**variables: str) -> None:
    """Set environment variables and make `settings()` read them again."""
    os.environ.update(variables)
    settings.cache_clear()
