"""A backup is brought back into new servers, and everything that was there is there again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import inspect, text, update
from typer.testing import CliRunner, Result

from cli.main import app
from cli.stack.servers import S3Server
from core import db, keys, storage
from core.config import settings
from core.domain import Stage
from core.models import Step
from core.steps import requeue_expired
from tests.conftest import point_settings
from tests.core.factories import claim_step, create_analysis

NAMES = ("DATABASE_URL", "S3__BUCKET", "SECRET_KEY")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def presented(clean_database: str, bucket: str) -> str:
    """A key; there is work that runs, and two objects."""
    assert clean_database
    storage.storage().delete_prefix("")
    with db.transaction() as session:
        _, presented = keys.create(session, name="test", owner="alice")
        row = create_analysis(session, keys.authenticate(session, presented))
        claim_step(session, row.id, Stage.EXTRACT)
    for name in ("media/one", f"analyses/{row.id}/pictures-1-a/track-0.jpg"):
        put(name, name.encode() * 1000)
    assert bucket
    return presented


def put(name: str, content: bytes) -> None:
    upload = storage.storage().open_upload(name)
    upload.write(content)
    upload.complete()


@pytest.fixture
def elsewhere(database: str, bucket: str, s3: S3Server) -> Iterator[None]:
    """An empty database and a bucket that does not exist yet are configured."""
    before = dict(zip(NAMES, (database, bucket, settings().secret_key.get_secret_value()), strict=True))
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS restored WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE restored"))
    s3.make_bucket("restored")
    for there in s3.client().list_objects_v2(Bucket="restored").get("Contents", []):
        s3.client().delete_object(Bucket="restored", Key=there["Key"])
    s3.client().delete_bucket(Bucket="restored")
    yield
    repoint(**before)


def repoint(**names: str) -> None:
    db.engine().dispose()
    point_settings(**{f"DEEPDEFEND_{name}": value for name, value in names.items()})
    db.engine.cache_clear()
    storage.storage.cache_clear()


def go_elsewhere() -> None:
    database = settings().database_url.get_secret_value()
    repoint(DATABASE_URL=database.rsplit("/", 1)[0] + "/restored", S3__BUCKET="restored")


def everything() -> tuple[dict[str, list[str]], dict[str, bytes]]:
    """Every row as text, and every object."""
    with db.engine().connect() as connection:
        rows = {
            table: sorted(str(row) for row in connection.execute(text(f'TABLE "{table}"')))
            for table in inspect(connection).get_table_names()
            if table != "rate_limits"  # unlogged: a quota is not worth keeping
        }
    return rows, {key: storage.storage().read(key) for key in storage.storage().keys("")}


@pytest.mark.usefixtures("elsewhere")
def test_everything_is_there_again(presented: str, tmp_path: Path) -> None:
    before = everything()
    made = run("backup", tmp_path / "backup")
    assert (made.exit_code, made.stderr) == (0, "")
    assert "2 objects" in made.output
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0, "it holds people's faces"
    secrets = [settings().secret_key, settings().database_url, settings().s3.secret_access_key]
    written = b"".join(path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret and secret.get_secret_value().encode() in written]

    go_elsewhere()
    back = run("restore", tmp_path / "backup")
    assert (back.exit_code, back.stderr) == (0, "")
    assert everything() == before
    with db.transaction() as session:
        assert keys.authenticate(session, presented).owner == "alice"
        session.execute(update(Step).values(lease_expires=text("now() - interval '1 s'")))
        assert len(requeue_expired(session, settings().steps)) == 1, "what ran starts again"


@pytest.mark.usefixtures("elsewhere", "presented")
def test_an_older_backup_is_brought_up_to_date(tmp_path: Path) -> None:
    go_elsewhere()
    db.migrate("0002")
    storage.storage().ensure_bucket()
    run("backup", tmp_path / "old")
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    assert json.loads((tmp_path / "old" / "manifest.json").read_text())["revision"] == "0002"
    assert run("restore", tmp_path / "old").exit_code == 0
    assert db.engine().connect().execute(text("SELECT count(lane) FROM analyses")).scalar_one() == 0


@pytest.mark.usefixtures("elsewhere", "presented")
def test_another_secret_is_said(tmp_path: Path) -> None:
    run("backup", tmp_path / "backup")
    go_elsewhere()
    repoint(SECRET_KEY="another-secret-of-more-than-32-characters")
    back = run("restore", tmp_path / "backup")
    assert back.exit_code == 0
    assert "no API key of the backup works" in back.stderr


@pytest.mark.usefixtures("presented")
def test_it_never_writes_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    assert run("backup", tmp_path).stderr == f"deepdefend: {tmp_path} is not empty\n"
    run("backup", tmp_path / "backup")
    refused = run("restore", tmp_path / "backup")
    assert refused.exit_code == 1
    assert refused.stderr == "deepdefend: the database is not empty: restore into a new one\n"


def damage(folder: Path, how: str) -> None:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    if how == "no manifest":
        (folder / "manifest.json").unlink()
        return
    if how == "half an object":
        (folder / "objects" / "media" / "one").write_bytes(b"half")
    elif how == "lost object":
        (folder / "objects" / "media" / "one").unlink()
    elif how == "cut dump":
        (folder / "database.dump").write_bytes((folder / "database.dump").read_bytes()[:-100])
    elif how == "leads out":
        manifest["objects"]["../../../../etc/passwd"] = "0" * 64
    elif how == "newer":
        manifest["format"] = 2
    elif how == "no object":
        manifest = {"format": 1}
    elif how == "not an object":
        manifest["objects"] = 7
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.usefixtures("elsewhere", "presented")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no manifest", "holds no complete backup"),
        ("half an object", "is damaged: objects/media/one"),
        ("lost object", "holds no complete backup"),
        ("cut dump", "is damaged: database.dump"),
        ("leads out", "leads out of the folder"),
        ("newer", "its format is 2, this version reads 1"),
        ("no object", "holds no complete backup"),
        ("not an object", "holds no complete backup"),
    ],
)
def test_a_damaged_backup_changes_nothing(how: str, said: str, tmp_path: Path) -> None:
    run("backup", tmp_path / "backup")
    damage(tmp_path / "backup", how)
    go_elsewhere()
    refused = run("restore", tmp_path / "backup")
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert inspect(db.engine()).get_table_names() == []


@pytest.mark.usefixtures("elsewhere", "presented")
def test_servers_that_are_away_are_one_clear_line(tmp_path: Path) -> None:
    repoint(DATABASE_URL="postgresql://nobody:none@127.0.0.1:1/none")
    away = run("backup", tmp_path / "backup")
    assert away.exit_code == 1
    assert "pg_dump" in away.stderr
    assert "none@" not in away.stderr, "no password is shown"
    assert not (tmp_path / "backup" / "manifest.json").exists()


@pytest.mark.usefixtures("elsewhere", "presented")
def test_a_connection_that_must_be_encrypted_is_never_made_in_the_clear(tmp_path: Path) -> None:
    repoint(DATABASE_URL=settings().database_url.get_secret_value() + "?sslmode=verify-full")
    refused = run("backup", tmp_path / "backup")
    assert refused.exit_code == 1
    assert "pg_dump" in refused.stderr
    assert "SSL" in refused.stderr or "root certificate" in refused.stderr
    dump = tmp_path / "backup" / "database.dump"
    assert not dump.exists() or dump.stat().st_size == 0


@pytest.mark.usefixtures("elsewhere", "presented")
def test_all_of_the_address_is_used_and_its_password_is_in_no_process_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(settings().database_url.get_secret_value())
    ran: list[list[str]] = []
    real = subprocess.run

    def run_and_tell(said: list[str], **more: Any) -> Any:
        ran.append(said)
        return real(said, **more)

    monkeypatch.setattr(subprocess, "run", run_and_tell)
    repoint(
        DATABASE_URL=f"postgresql://{parts.username}@{parts.path}?host={parts.hostname}&port={parts.port}"
        f"&application_name=the%20backup&password={parts.password}"
    )
    made = run("backup", tmp_path / "backup")
    assert (made.exit_code, made.stderr) == (0, "")
    (said,) = ran
    assert any("application_name=the%20backup" in word for word in said)
    assert parts.password
    assert parts.password not in " ".join(said)
