"""Secrets: never in the clear, readable after a change of keys, and signed as others verify."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from core.config import settings
from core.webhooks import secrets

SetWebhooks = Callable[..., None]


def keys() -> tuple[str, str]:
    return Fernet.generate_key().decode(), Fernet.generate_key().decode()


def headers(*signers: str, body: str, timestamp: int | None = None) -> dict[str, str]:
    moment = timestamp or int(time.time())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(moment),
        "webhook-signature": secrets.signatures(signers, event_id="evt_1", timestamp=moment, body=body),
    }


def test_a_secret_is_32_fresh_random_bytes() -> None:
    made = {secrets.generate() for _ in range(20)}
    assert len(made) == 20
    assert all(secret.startswith("whsec_") for secret in made)
    assert {len(base64.b64decode(secret[6:], validate=True)) for secret in made} == {32}


def test_what_is_stored_is_not_the_secret() -> None:
    secret = secrets.generate()
    sealed = secrets.seal(secret)
    for form in (secret, secret[6:], base64.b64decode(secret[6:]).hex()):
        assert form.encode() not in sealed
    assert base64.b64decode(secret[6:]) not in base64.urlsafe_b64decode(sealed)
    assert secrets.seal(secret) != sealed
    assert secrets.unseal(sealed) == secret


def test_keys_can_be_named_and_changed_without_losing_a_secret(set_webhooks: SetWebhooks) -> None:
    secret, (first, second) = secrets.generate(), keys()
    derived = secrets.seal(secret)
    set_webhooks(encryption_keys=json.dumps([first]))
    named = secrets.seal(secret)
    assert secrets.unseal(derived) == secret
    set_webhooks(encryption_keys=json.dumps([second, first]))
    assert secrets.unseal(named) == secret
    again = secrets.reseal(derived)
    set_webhooks(encryption_keys=json.dumps([second]))
    assert secrets.unseal(again) == secret
    assert not secrets.is_readable(named)
    with pytest.raises(secrets.SecretUnreadable):
        secrets.unseal(named)
    with pytest.raises(secrets.SecretUnreadable):
        secrets.reseal(named)


def test_another_secret_key_derives_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = secrets.seal(secrets.generate())
    monkeypatch.setenv("DEEPDEFEND_SECRET_KEY", "another secret of this installation")
    settings.cache_clear()
    assert not secrets.is_readable(sealed)
    monkeypatch.undo()
    settings.cache_clear()
    assert secrets.is_readable(sealed)


@pytest.mark.parametrize("bad", ["short", "ü" * 32, base64.b64encode(b"x" * 31).decode(), ""])
def test_a_key_that_is_none_is_refused_at_the_start_without_being_quoted(
    bad: str, set_webhooks: SetWebhooks
) -> None:
    set_webhooks(encryption_keys=json.dumps([bad]))
    with pytest.raises(ValidationError) as refused:
        settings()
    assert "32 random bytes" in str(refused.value)
    assert not bad or bad not in str(refused.value)


@given(st.text(max_size=300))
def test_the_public_library_accepts_our_signature(body: str) -> None:
    secret = secrets.generate()
    text = json.dumps({"said": body}, ensure_ascii=False).encode("utf-8", "ignore").decode()
    assert Webhook(secret).verify(text, headers(secret, body=text)) == json.loads(text)


def test_during_an_overlap_both_secrets_verify_and_a_third_does_not() -> None:
    old, new, other = (secrets.generate() for _ in range(3))
    signed = headers(new, old, body="{}")
    assert Webhook(old).verify("{}", signed) == {}
    assert Webhook(new).verify("{}", signed) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify("{}", signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_nothing_that_is_signed_can_be_changed(changed: str) -> None:
    secret = secrets.generate()
    signed, body = headers(secret, body='{"a":1}'), '{"a":1}'
    if changed == "body":
        body = '{"a":2}'
    else:
        signed[changed] = str(int(time.time()) + 7)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, signed)
