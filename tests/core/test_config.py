"""Settings: typed, nested, and no secret by default."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from core.config import ChecksumMode, Settings

REQUIRED = {
    "DEEPDEFEND_DATABASE_URL": "postgresql://u:p@h/d",
    "DEEPDEFEND_BROKER_URL": "redis://h/0",
    "DEEPDEFEND_SECRET_KEY": "k" * 32,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def build() -> Settings:
    return Settings(_env_file=None)


@pytest.mark.parametrize("name", REQUIRED)
def test_there_is_no_default_secret_or_address(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    with pytest.raises(ValidationError, match=name.removeprefix("DEEPDEFEND_").lower()):
        build()


def test_a_short_secret_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEEPDEFEND_SECRET_KEY", "short")
    with pytest.raises(ValidationError, match="secret_key"):
        build()


def test_settings_nest_and_have_types(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEEPDEFEND_S3__CHECKSUM_MODE", "when_supported")
    environment.setenv("DEEPDEFEND_LIMITS__MAX_DURATION", "PT1H")
    environment.setenv("DEEPDEFEND_STEPS__MAX_ATTEMPTS", "5")
    environment.setenv("GOOGLE_API_KEY", "g")
    built = build()
    assert built.s3.checksum_mode is ChecksumMode.WHEN_SUPPORTED
    assert built.limits.max_duration == timedelta(hours=1)
    assert built.steps.max_attempts == 5
    assert built.google_api_key is not None
    assert built.google_api_key.get_secret_value() == "g"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPS__MAX_ATTEMPTS", "0"),
        ("S3__PART_BYTES", "1000"),
        ("LIMITS__MAX_UPLOAD_BYTES", "many"),
        ("ENVIRONMENT", "staging"),
        ("MODELS__DEVICE", "tpu"),
    ],
)
def test_values_out_of_bounds_stop_the_process(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(f"DEEPDEFEND_{name}", value)
    with pytest.raises(ValidationError):
        build()


def test_secrets_do_not_print(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DEEPDEFEND_SECRET_KEY", "very-secret-" * 4)
    environment.setenv("DEEPDEFEND_S3__SECRET_ACCESS_KEY", "also-secret")
    printed = repr(build())
    assert "very-secret" not in printed
    assert "also-secret" not in printed
    assert "u:p@h" not in printed


def test_the_products_defaults(environment: pytest.MonkeyPatch) -> None:
    assert environment
    built = build()
    assert built.limits.min_upload_bytes == 0
    assert built.limits.max_upload_bytes == 500 * 1024 * 1024
    assert built.limits.max_duration == timedelta(minutes=30)
    assert built.models.video == "dima806/deepfake_vs_real_image_detection"
    assert built.models.audio == "mo-thecreator/Deepfake-audio-detection"
    assert built.narrator.model == "gemini-2.5-flash"
    assert not built.allow_test_detectors
