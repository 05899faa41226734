"""`deepdefend doctor` against real servers, whole and broken in each way that it knows a remedy for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import redis
from typer.testing import CliRunner

from cli.doctor import database, servers
from cli.doctor.finding import State
from cli.main import app
from cli.stack.servers import PostgresServer, ValkeyServer
from core import db, fleet, storage
from core.config import ModelSettings, settings
from core.models import WebhookEndpoint
from core.queue import names_of
from core.webhooks import secrets
from tests.checkpoints import make_audio_checkpoint, make_image_checkpoint
from tests.conftest import NOWHERE
from workers.dispatcher import DISPATCHER_LOCK
from workers.media import sandbox


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings, connections and clients as of a fresh process, before and after."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    settings.cache_clear()
    db.engine.cache_clear()
    storage.storage.cache_clear()


def examined() -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and findings by name."""
    forget()
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    said = json.loads(done.stdout)
    assert said["status"] == min(
        (one["state"] for one in said["checks"] if one["state"] != "skipped"), key=rank
    )
    return done.exit_code, {one["check"]: one for one in said["checks"]}


def rank(state: str) -> int:
    return ["fail", "warn", "ok"].index(state)


@pytest.fixture
def whole(clean_database: str, broker: str, bucket: str) -> Iterator[None]:
    """A service that is well: servers, a worker for every queue, a dispatcher."""
    assert clean_database
    assert broker
    assert bucket
    with db.transaction() as session:
        fleet.announce(session, boot_id="w", queues=names_of(), version="0.1.0", sandbox="bubblewrap")
    holder = db.lock_connection(DISPATCHER_LOCK)
    assert holder is not None
    yield
    holder.close()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkpoints under the names of the defaults."""
    folder = tmp_path / "models"
    named = ModelSettings()
    make_image_checkpoint(folder / named.video.replace("/", "--"), test_only=False)
    make_audio_checkpoint(folder / named.audio.replace("/", "--"), test_only=False)
    monkeypatch.setenv("DEEPDEFEND_MODELS__DIR", str(folder))
    return folder


@pytest.mark.usefixtures("whole", "weights")
def test_a_whole_service_is_well() -> None:
    status, found = examined()

    assert status == 0, {name: one for name, one in found.items() if one["state"] == "fail"}
    well = {name for name, one in found.items() if one["state"] == "ok"}
    assert {
        "python", "decoder", "detector video", "detector audio", "device", "database", "schema",
        "clock of the database", "workers", "dispatcher", "webhook secrets", "broker", "storage",
        "storage in parts", "clock of the storage", "settings",
    } <= well  # fmt: skip
    assert found["workers"]["facts"]["sandboxes"] == ["bubblewrap"]
    assert found["flower"]["state"] == "skipped"
    assert list(storage.storage().keys(servers.PREFIX)) == []
    assert found["sandbox"]["facts"]["level"] == sandbox.level()


@pytest.mark.usefixtures("whole")
def test_it_is_told_in_words_too() -> None:
    done = CliRunner().invoke(app, ["doctor"])

    assert done.exit_code == 0, done.output
    assert "database                  PostgreSQL 18" in done.output
    assert "mend: deepdefend models pull video" in done.output
    assert "2 warn" in done.output.splitlines()[-1]


def test_where_nothing_is_configured_it_says_so(tmp_path: Path) -> None:
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "cli.main", "doctor", "--json"]
    environment = clean | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stderr
    found = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert found["settings"]["said"] == "nothing is configured"
    assert "deepdefend up" in found["settings"]["mend"]
    assert found["servers"]["state"] == "skipped"
    assert found["python"]["state"] == "ok"
    assert found["detector audio"]["facts"]["code"] == "no_detector_weights"


def test_a_folder_without_a_stack_is_no_stack(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path)])

    assert done.exit_code == 1
    assert "no stack has run in" in done.output


def test_a_setting_out_of_bounds_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_SECRET_KEY", "hunter2")
    monkeypatch.setenv("DEEPDEFEND_MODELS__BATCH_SIZE", "0")
    forget()

    done = CliRunner().invoke(app, ["doctor"])

    assert done.exit_code == 1
    assert "DEEPDEFEND_SECRET_KEY" in done.output
    assert "DEEPDEFEND_MODELS__BATCH_SIZE" in done.output
    assert "hunter2" not in done.output


def test_what_production_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_SECRET_KEY", "change-me-change-me-change-me-change-me")
    _, found = examined()
    assert found["settings"]["state"] == "warn"
    assert "DEEPDEFEND_SECRET_KEY" in found["settings"]["said"]

    monkeypatch.setenv("DEEPDEFEND_ENVIRONMENT", "production")
    status, found = examined()
    assert (status, found["settings"]["state"]) == (1, "fail")
    assert "not safe in production" in found["settings"]["said"]
    assert found["servers"]["state"] == "skipped"


@pytest.mark.usefixtures("broker", "bucket")
def test_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", f"postgresql://nobody:geheim@{NOWHERE}/none")

    status, found = examined()

    assert (status, found["database"]["state"]) == (1, "fail")
    assert "refused" in found["database"]["said"]
    assert "geheim" not in json.dumps(found)
    assert {found[name]["state"] for name in database.BEHIND} == {"skipped"}
    assert found["broker"]["state"] == found["storage"]["state"] == "ok"


@contextmanager
def another_database(postgres: PostgresServer, *statements: str) -> Iterator[str]:
    """A database of its own, with statements run as its owner."""
    name = f"doctor_{uuid4().hex[:8]}"
    connection = psycopg2.connect(postgres.database_url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        for statement in statements:
            cursor.execute(statement.format(name=name))
    yield postgres.database_url(name)
    db.engine().dispose()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
    connection.close()


def test_a_database_without_a_schema(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_database(postgres) as url:
        monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", url)
        _, found = examined()
        assert (found["schema"]["state"], found["schema"]["mend"]) == ("fail", "deepdefend migrate")
        assert found["database"]["state"] == "ok"
        assert found["workers"]["state"] == "skipped"


def test_a_schema_of_a_newer_version(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_database(postgres) as url:
        monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", url)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
            cursor.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.close()
        _, found = examined()
        assert found["schema"]["state"] == "fail"
        assert "newer version" in found["schema"]["mend"]


def test_a_database_that_takes_no_writes(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_database(postgres, "ALTER DATABASE {name} SET default_transaction_read_only = on") as url:
        monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", url)
        _, found = examined()
        assert found["database"]["state"] == "fail"
        assert "read-only" in found["database"]["said"]


def test_a_user_who_may_not_write(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    revoke = "REVOKE ALL ON DATABASE {name} FROM public"
    grant = f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE {{name}} TO {role}"
    with another_database(postgres, revoke, grant) as url:
        monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", f"postgresql://{role}:x@{url.partition('@')[2]}")
        _, found = examined()
        assert found["database"]["state"] == "fail"
        assert "takes no writes: permission denied" in found["database"]["said"]


@pytest.mark.usefixtures("broker", "bucket", "clean_database")
def test_nobody_at_work() -> None:
    status, found = examined()

    assert status == 1
    assert (found["workers"]["state"], found["dispatcher"]["state"]) == ("fail", "fail")
    assert found["workers"]["mend"].startswith("deepdefend worker extraction ")
    assert found["dispatcher"]["mend"] == "deepdefend dispatcher"


@pytest.mark.usefixtures("whole")
def test_one_queue_without_a_worker() -> None:
    with db.transaction() as session:
        queues = [name for name in names_of() if not name.startswith("audio")]
        fleet.announce(session, boot_id="w", queues=queues, version="0.1.0", sandbox="rlimits")

    _, found = examined()

    assert found["workers"]["mend"] == "deepdefend worker audio"
    assert found["workers"]["facts"]["sandboxes"] == ["rlimits"]


@pytest.mark.usefixtures("whole")
def test_webhook_secrets_of_a_lost_key() -> None:
    with db.transaction() as session:
        for sealed in (secrets.seal("whsec_x"), b"sealed with another key"):
            session.add(
                WebhookEndpoint(owner="o", url=f"https://x.example/{len(sealed)}", events=[], secret=sealed)
            )

    status, found = examined()

    assert (status, found["webhook secrets"]["state"]) == (1, "fail")
    assert found["webhook secrets"]["said"].startswith("1 of 2 cannot be read")


@pytest.mark.usefixtures("whole")
def test_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_BROKER_URL", f"redis://{NOWHERE}/0")

    status, found = examined()

    assert (status, found["broker"]["state"]) == (1, "fail")


@pytest.mark.parametrize("url", ["redis://:wrong@{}/0", "redis://127.0.0.1:bad/0"])
def test_a_broker_that_lets_nobody_in(valkey: ValkeyServer, url: str) -> None:
    host = valkey.database_url(0).rpartition("@")[2].removeprefix("redis://").partition("/")[0]

    found = servers.broker(url.format(host))

    assert found.state is State.FAIL
    assert "wrong@" not in found.said


def test_a_broker_that_forgets(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        client.config_set("maxmemory", 100_000_000)
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = servers.broker(broker)
        finally:
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")

    assert (found.state, found.facts["policy"]) == (State.WARN, "allkeys-lru")
    assert servers.broker(broker).state is State.OK


def test_a_broker_that_is_no_redis() -> None:
    assert servers.broker("amqp://guest@127.0.0.1/").state is State.SKIPPED


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("name", "value"),
    [("ENDPOINT_URL", f"http://{NOWHERE}"), ("BUCKET", "no-such-bucket"), ("SECRET_ACCESS_KEY", "falsch")],
)
def test_a_storage_that_does_not_serve(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DEEPDEFEND_S3__{name}", value)

    status, found = examined()

    assert (status, found["storage"]["state"]) == (1, "fail")
    assert found["storage in parts"]["state"] == "skipped"
    assert "falsch" not in json.dumps(found)
