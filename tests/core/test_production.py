"""Production does not start with what everybody knows, and one message names all of it."""

from __future__ import annotations

import base64
import secrets
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import LargeBinary

from core import production
from core.config import Settings
from core.models import Base

ROOT = Path(__file__).parents[2]
GOOD = {
    "DEEPDEFEND_ENVIRONMENT": "production",
    "DEEPDEFEND_DATABASE_URL": f"postgresql://dd:{secrets.token_hex(16)}@db:5432/dd",
    "DEEPDEFEND_BROKER_URL": f"redis://:{secrets.token_hex(16)}@valkey:6379/0",
    "DEEPDEFEND_SECRET_KEY": secrets.token_hex(32),
    "DEEPDEFEND_S3__ACCESS_KEY_ID": secrets.token_hex(10),
    "DEEPDEFEND_S3__SECRET_ACCESS_KEY": secrets.token_hex(32),
}
WEAK = [
    ("k" * 32, "repeats"),
    ("ab" * 20, "repeats"),
    ("0123abcd" * 8, "repeats"),
    ("change-me-change-me-change-me-please", "example"),
    ("ThisIsAnExampleSecretKeyForDevelopment", "example"),
    ("your-256-bit-key-goes-here-ok-then-fine", "example"),
    ("DEEPDEFEND-9f8e7d6c5b4a39281706f5e4d3c2", "example"),
    ("My_Super_Insecure_Key_9f8e7d6c5b4a3928", "example"),
    ("abcdefghijklmnopqrstuvwxyz123456ABCDEF", "alphabet"),
    ("x9qwertyuiop4asdfghjkl7zxcvbnm1QAZ2WSX", "alphabet"),
    ("9876543210fedcba98765432109f8e7d6c5b4a", "alphabet"),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "few"),
    ("abababababababababababababababababa1", "few"),
]
REFUSED = [
    ("DEEPDEFEND_SECRET_KEY", "k" * 32),
    ("DEEPDEFEND_METRICS_TOKEN", "password-password"),
    ("DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS", f'["{base64.urlsafe_b64encode(bytes(32)).decode()}"]'),
    ("DEEPDEFEND_S3__ACCESS_KEY_ID", "minioadmin"),
    ("DEEPDEFEND_S3__ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("DEEPDEFEND_S3__SECRET_ACCESS_KEY", "MinioAdmin"),
    ("DEEPDEFEND_S3__SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("DEEPDEFEND_S3__SECRET_ACCESS_KEY", ""),
    ("DEEPDEFEND_DATABASE_URL", "postgresql://postgres:postgres@db/dd"),
    ("DEEPDEFEND_DATABASE_URL", "postgresql://dd:%70assword@db/dd"),
    ("DEEPDEFEND_DATABASE_URL", "postgresql://dd:@db/dd"),
    ("DEEPDEFEND_DATABASE_URL", "postgresql://postgres@db/dd?password=postgres"),
    ("DEEPDEFEND_DATABASE_URL", "postgresql:///dd?host=db&user=dd&password="),
    ("DEEPDEFEND_DATABASE_URL", "postgresql://dd:9f8e7d6c5b4a3928@db/dd?sslmode=require&password=%70assword"),
    ("DEEPDEFEND_BROKER_URL", "redis://:changeme@valkey/0"),
    ("DEEPDEFEND_BROKER_URL", "redis://valkey/0?password=changeme"),
    ("FLOWER_BASIC_AUTH", "user:password"),
    ("FLOWER_BASIC_AUTH", "flower:flower"),
    ("FLOWER_BASIC_AUTH", "one:9f8e7d6c5b4a3928,two:short"),
    ("FLOWER_BASIC_AUTH", "nobody"),
    ("FLOWER_BASIC_AUTH", ""),
    ("DEEPDEFEND_FAILPOINT", "fuse.judged"),
    ("DEEPDEFEND_ALLOW_TEST_DETECTORS", "true"),
    ("DEEPDEFEND_CORS_ORIGINS", '["*"]'),
    ("DEEPDEFEND_CORS_ORIGINS", '["https://newsroom.example", "*"]'),
    ("DEEPDEFEND_LOG_LEVEL", "debug"),
]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What a careful operator has set."""
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLOWER_BASIC_AUTH", f"flower:{secrets.token_hex(16)}")
    return monkeypatch


def build() -> Settings:
    return Settings(_env_file=None)


def test_a_careful_operator_can_start(environment: pytest.MonkeyPatch) -> None:
    assert environment
    assert tuple(build().refusals()) == ()
    for absent in ("FLOWER_BASIC_AUTH", "DEEPDEFEND_S3__ACCESS_KEY_ID", "DEEPDEFEND_S3__SECRET_ACCESS_KEY"):
        environment.delenv(absent)
    environment.setenv("DEEPDEFEND_DATABASE_URL", "postgresql:///dd?host=/run/postgresql")
    environment.setenv("DEEPDEFEND_BROKER_URL", "redis://valkey/0")
    assert build().environment == "production", "IAM roles, sockets and private networks need no password"


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=[f"{name}={value}" for name, value in REFUSED])
def test_what_everybody_knows_is_refused_and_named(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        build()
    said = str(refused.value)
    assert "not safe in production" in said
    assert name in said
    assert sum(f"{other}" in said for other in {known for known, _ in REFUSED}) == 1, "and nothing else"
    environment.setenv("DEEPDEFEND_ENVIRONMENT", "development")
    assert tuple(build().refusals()) != (), "a doctor can tell beforehand"


def test_one_message_names_everything_and_quotes_nothing(environment: pytest.MonkeyPatch) -> None:
    last = dict(REFUSED)
    for name, value in last.items():
        environment.setenv(name, value)
    environment.setenv("DEEPDEFEND_SECRET_KEY", "hunter2-password-" * 3)
    environment.setenv("DEEPDEFEND_DATABASE_URL", "postgresql://dd:s3cr3t@10.1.2.3/dd")
    with pytest.raises(ValidationError) as refused:
        build()
    said = str(refused.value)
    assert [name for name in last if name not in said] == []
    for value in ("hunter2", "s3cr3t", "10.1.2.3", "wJalr", "AAAA"):
        assert value not in said


@pytest.mark.parametrize(("secret", "why"), WEAK)
def test_a_secret_that_was_never_random_is_seen(secret: str, why: str) -> None:
    assert len(secret) >= 32
    assert why in (production.weakness(secret) or "")


@given(st.sampled_from([16, 24, 32, 48]), st.sampled_from(["hex", "urlsafe"]))
def test_a_random_secret_is_not_suspected(size: int, kind: str) -> None:
    made = secrets.token_hex(size) if kind == "hex" else secrets.token_urlsafe(max(size, 24))
    weak = production.weakness(made)
    # One in ten thousand has a run or a word by chance; what it must not be is the rule.
    assert weak is None or weak not in {"it repeats itself", "it has too few different characters"}


def test_nearly_every_random_secret_passes() -> None:
    refused = sum(production.weakness(secrets.token_urlsafe(32)) is not None for _ in range(2000))
    assert refused <= 10


def test_what_new_env_writes_is_good_enough(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    subprocess.run([ROOT / "scripts" / "new-env", tmp_path / "env"], check=True, capture_output=True)
    written = dict(
        line.split("=", 1)
        for line in (tmp_path / "env").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    environment.setenv("DEEPDEFEND_SECRET_KEY", written["DEEPDEFEND_SECRET_KEY"])
    environment.setenv("DEEPDEFEND_S3__ACCESS_KEY_ID", written["S3_ACCESS_KEY_ID"])
    environment.setenv("DEEPDEFEND_S3__SECRET_ACCESS_KEY", written["S3_SECRET_ACCESS_KEY"])
    environment.setenv("DEEPDEFEND_DATABASE_URL", f"postgresql://dd:{written['POSTGRES_PASSWORD']}@db/dd")
    environment.setenv("DEEPDEFEND_BROKER_URL", f"redis://:{written['VALKEY_PASSWORD']}@valkey/0")
    environment.setenv("FLOWER_BASIC_AUTH", written["FLOWER_BASIC_AUTH"])
    assert tuple(build().refusals()) == ()


@pytest.mark.parametrize(
    "origin",
    [
        "newsroom.example",
        "https://newsroom.example/",
        "https://newsroom.example/page",
        "https://*.newsroom.example",
        "https://NEWSROOM.example",
        "https://user@newsroom.example",
        "null",
        "file://",
        "",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_everywhere(
    environment: pytest.MonkeyPatch, origin: str
) -> None:
    environment.setenv("DEEPDEFEND_ENVIRONMENT", "development")
    environment.setenv("DEEPDEFEND_CORS_ORIGINS", f'["{origin}"]')
    with pytest.raises(ValidationError, match="cors_origins"):
        build()


@pytest.mark.parametrize(
    "origin",
    ["https://newsroom.example", "http://localhost:5173", "http://127.0.0.1:3000", "http://[::1]:80"],
)
def test_an_origin_of_a_browser_is_taken(environment: pytest.MonkeyPatch, origin: str) -> None:
    environment.setenv("DEEPDEFEND_CORS_ORIGINS", f'["{origin}"]')
    assert build().cors_origins == (origin,)


def test_webhook_secrets_have_no_place_in_plain_text() -> None:
    """No setting could keep them so: what is stored is the bytes that encryption gives."""
    columns = Base.metadata.tables["webhook_endpoints"].columns
    kept = [column for column in columns if "secret" in column.name and not column.name.endswith("_until")]
    assert kept != []
    assert {type(column.type) for column in kept} == {LargeBinary}
