"""`deepdefend keys` against a real database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from cli.main import app
from cli.stack import StackError
from cli.stack.environment import of_data_dir
from cli.stack.servers import PostgresServer, S3Server, ValkeyServer
from cli.stack.state import State
from core import audit, db, keys
from core.config import settings
from core.errors import Unauthorized
from tests.conftest import point_settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_that_is_made_works_and_one_that_is_revoked_does_not(clean_database: str) -> None:
    assert clean_database
    made = run("create", "newsroom", "--owner", "desk")
    assert made.exit_code == 0
    key = made.output.strip()
    with db.transaction() as session:
        assert keys.authenticate(session, key).owner == "desk"

    prefix = key.split("_")[1]
    assert run("revoke", prefix).output == f"{prefix} is revoked\n"
    with db.transaction() as session, pytest.raises(Unauthorized):
        keys.authenticate(session, key)
    assert run("revoke", prefix).exit_code == 0, "twice changes nothing"


def test_a_key_may_do_what_it_was_made_for_and_for_as_long(clean_database: str) -> None:
    assert clean_database
    ordinary = run("create", "a").output.strip()
    narrow = run("create", "b", "--scope", "admin", "--scope", "stats", "--days", "1").output.strip()
    with db.transaction() as session:
        assert keys.authenticate(session, ordinary).scopes == set(keys.ORDINARY)
        assert keys.authenticate(session, narrow).scopes == {"admin", "stats"}
        session.execute(text("UPDATE api_keys SET expires_at = expires_at - interval '1 day'"))
    with db.transaction() as session, pytest.raises(Unauthorized):
        keys.authenticate(session, narrow)
    assert [line.split("\t")[2] for line in run("list").output.splitlines()] == ["expired", "active"]


@pytest.mark.parametrize("wrong", [["--scope", "everything"], ["--days", "0"], ["--days", "soon"]])
def test_a_wrong_wish_makes_no_key(clean_database: str, wrong: list[str]) -> None:
    assert clean_database
    assert run("create", "a", *wrong).exit_code != 0
    assert run("list").output == ""


def test_what_is_done_to_keys_is_in_the_audit_log(clean_database: str) -> None:
    assert clean_database
    prefix = run("create", "newsroom").output.strip().split("_")[1]
    run("revoke", prefix)
    with db.read() as session:
        entries = audit.page(session, prefix, filters=audit.Filters()).items
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("key.revoked", "command line"),
        ("key.created", "command line"),
    ]


def test_the_list_shows_no_secret(clean_database: str) -> None:
    assert clean_database
    key = run("create", "first").output.strip()
    other = run("create", "second").output.strip().split("_")[1]
    run("revoke", other)
    shown = run("list").output
    _, prefix, secret = key.split("_")
    assert secret not in shown
    rows = [line.split("\t") for line in shown.splitlines()]
    assert rows == [
        [other, other, "revoked", "never used", "second"],
        [prefix, prefix, "active", "never used", "first"],
    ]


def test_an_unknown_key_is_one_clear_line(clean_database: str) -> None:
    assert clean_database
    refused = run("revoke", "12345678")
    assert refused.exit_code == 1
    assert refused.output == "deepdefend: no API key with the prefix 12345678\n"


def test_a_database_that_is_away_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings().database_url.get_secret_value()
    monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    settings.cache_clear()
    db.engine.cache_clear()
    try:
        refused = run("list")
        assert refused.exit_code == 1
        assert refused.output.startswith("deepdefend: the database does not answer: ")
        assert refused.output.count("\n") == 1
    finally:
        point_settings(DEEPDEFEND_DATABASE_URL=before)
        db.engine.cache_clear()


def test_without_settings_and_without_a_stack_it_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from anybody's .env
    monkeypatch.delenv("DEEPDEFEND_DATABASE_URL")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    refused = run("list")
    assert refused.exit_code == 1
    assert refused.output == (
        f"deepdefend: no stack has run in {tmp_path}/deepdefend: start one with `deepdefend up`\n"
    )


def test_the_settings_of_a_data_directory_lead_to_its_servers(tmp_path: Path) -> None:
    servers = [PostgresServer(tmp_path), ValkeyServer(tmp_path), S3Server(tmp_path)]
    State(tmp_path / "secrets.json").secret("secret_key")
    with pytest.raises(StackError, match="has never run in"):
        of_data_dir(tmp_path)  # a first start that was cut short
    for server in servers:
        server.state.update(ports=dict.fromkeys(server.port_names, 23456))
    found = of_data_dir(tmp_path)
    assert found["DEEPDEFEND_DATABASE_URL"] == (
        f"postgresql://deepdefend:{servers[0].state.secret('password')}@127.0.0.1:23456/deepdefend"
    )
    assert found["DEEPDEFEND_S3__ENDPOINT_URL"] == "http://127.0.0.1:23456"
    assert len(found["DEEPDEFEND_SECRET_KEY"]) >= 32


def test_settings_that_are_refused_do_not_lead_to_another_service(
    monkeypatch: pytest.MonkeyPatch, clean_database: str
) -> None:
    """The stack of this machine is for who has set nothing, not for who has set something wrong."""
    assert clean_database
    monkeypatch.setenv("DEEPDEFEND_LIMITS__MAX_STREAMS", "none")
    settings.cache_clear()
    refused = run("list")
    settings.cache_clear()
    assert refused.exit_code == 1
    assert refused.stderr.startswith("deepdefend: the setting DEEPDEFEND_LIMITS__MAX_STREAMS is not usable: ")


def test_settings_that_production_refuses_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, clean_database: str
) -> None:
    assert clean_database
    monkeypatch.setenv("DEEPDEFEND_ENVIRONMENT", "production")
    monkeypatch.setenv("DEEPDEFEND_ALLOW_TEST_DETECTORS", "true")
    settings.cache_clear()
    refused = run("list")
    settings.cache_clear()
    assert refused.exit_code == 1
    assert refused.stderr.startswith("deepdefend: the settings are not usable: ")
    assert "ALLOW_TEST_DETECTORS" in refused.stderr
