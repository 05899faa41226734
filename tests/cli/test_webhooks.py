"""`deepdefend webhooks` against a real database."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet
from typer.testing import CliRunner, Result

from cli.main import app
from core import db
from core.config import settings
from core.models import WebhookEndpoint
from tests.core.webhooks.factories import create_endpoint


def run() -> Result:
    return CliRunner().invoke(app, ["webhooks", "reencrypt"])


def test_secrets_move_to_the_first_key(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_database
    with db.transaction() as session:
        row, secret = create_endpoint(session)
        lost, _ = create_endpoint(session)
    key = Fernet.generate_key().decode()
    monkeypatch.setenv("DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS", json.dumps([key]))
    settings.cache_clear()
    try:
        assert run().output == "2 endpoints encrypted anew\n"
        with db.transaction() as session:
            sealed = session.get_one(WebhookEndpoint, row.id).secret
            assert Fernet(key).decrypt(sealed).decode() == secret
            session.get_one(WebhookEndpoint, lost.id).secret = b"damaged"
        again = run()
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert again.exit_code == 1
    assert "1 endpoints encrypted anew" in again.output
    assert "1 endpoints have a secret that no configured key opens" in again.output


def test_without_a_database_it_says_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert database
    monkeypatch.setenv("DEEPDEFEND_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    settings.cache_clear()
    db.engine.cache_clear()
    try:
        refused = run()
    finally:
        monkeypatch.undo()
        settings.cache_clear()
        db.engine.cache_clear()
    assert refused.exit_code == 1
    assert "the database does not answer" in refused.output
