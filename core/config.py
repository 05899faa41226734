"""Settings from the environment: `DEEPDEFEND_…`, nested with `__`. No secret has a default."""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from core import failpoints, production

MiB = 1024 * 1024
FERNET_KEY_BYTES = 32
#: What browsers send in `Origin`.
ORIGIN = r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?"
#: Stands for Flower's variable in processes that are not Flower.
FLOWER_NOT_HERE = "nobody:asks here"


class ChecksumMode(StrEnum):
    """When boto3 adds CRC32 trailers; R2, B2 and older Ceph or MinIO refuse them."""

    WHEN_REQUIRED = "when_required"
    WHEN_SUPPORTED = "when_supported"


class S3Settings(BaseModel):
    """Where media and artifacts live."""

    endpoint_url: str | None = None  # None: AWS itself
    public_endpoint_url: str | None = None  # how senders of parts reach it; None: as the server does
    region: str = "us-east-1"  # what S3-compatible servers expect when they have no regions
    bucket: str = "deepdefend"
    access_key_id: SecretStr | None = None  # None: boto3's own credential chain (IAM roles)
    secret_access_key: SecretStr | None = None
    checksum_mode: ChecksumMode = ChecksumMode.WHEN_REQUIRED  # the mode every server accepts
    part_bytes: Annotated[int, Field(ge=5 * MiB)] = 8 * MiB  # 5 MiB is S3's own minimum


class Limits(BaseModel):
    """What a submitted file may be, checked before anything is decoded."""

    min_upload_bytes: Annotated[int, Field(ge=0)] = 0  # a 2 s voice note is smaller than 100 KB
    max_upload_bytes: Annotated[int, Field(ge=1)] = 500 * MiB  # half an hour of 1080p at 2 Mbit/s
    upload_idle: timedelta = timedelta(seconds=60)  # a sender that is silent for longer has gone
    max_duration: timedelta = timedelta(minutes=30)  # an hour of two CPU cores without a GPU
    max_pixels: Annotated[int, Field(ge=1)] = 8192 * 4320  # 8K; a 12000x12000 frame needs 870 MB
    max_frames: Annotated[int, Field(ge=1)] = 30 * 60 * 60  # 30 minutes at 60 fps
    max_streams: Annotated[int, Field(ge=1)] = 16  # real files have 2 to 6
    max_faces_per_frame: Annotated[int, Field(ge=1)] = 20  # a crowd is not a talking head
    decode_seconds: timedelta = timedelta(minutes=20)  # wall clock of the decoder child
    decode_memory_bytes: int = 1536 * MiB  # of its data segment; 1080p needs 0.4 GB


class StepSettings(BaseModel):
    """Leases and redelivery (architecture: 'Never lose one')."""

    lease: timedelta = timedelta(seconds=30)  # a killed worker's step starts again within this
    heartbeat: timedelta = timedelta(seconds=10)  # three missed beats lose the lease
    max_attempts: Annotated[int, Field(ge=1)] = 3  # then the step is failed: worker_lost
    republish_after: timedelta = timedelta(seconds=15)  # before a missing message is looked for
    chord_grace: timedelta = timedelta(seconds=3)  # how long the chord may take to ring for fusion
    hard_limit: timedelta = timedelta(hours=1)  # of one step; a hung process is killed then
    poll: timedelta = timedelta(seconds=1)  # the dispatcher's fallback when a NOTIFY is lost


class LaneSettings(BaseModel):
    """What the less urgent lanes are sure of while a more urgent one never runs dry."""

    standard_every: Annotated[int, Field(ge=2)] = 4  # one message in so many that a worker takes
    batch_every: Annotated[int, Field(ge=2)] = 8  # 500 of batch behind a stream of others go on, slowly


class ModelSettings(BaseModel):
    """Which checkpoints speak, and where their files are."""

    dir: Path = Path.home() / ".cache" / "deepdefend" / "models"
    video: str = "dima806/deepfake_vs_real_image_detection"  # hub id or a local folder
    video_revision: str | None = None  # None: the commit recorded by `models pull`
    video_fake_label: str | None = None  # only for checkpoints whose labels do not say
    audio: str = "mo-thecreator/Deepfake-audio-detection"
    audio_revision: str | None = None
    audio_fake_label: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 32  # ViT-B/16 at 32 keeps both CPU cores busy
    threads: Annotated[int, Field(ge=0)] = 0  # 0: torch's own choice
    blend_trace: Literal["on", "off"] = "off"  # the bundled detector; how good: docs/models/blend-trace.md


Network = IPv4Network | IPv6Network


class OutboundSettings(BaseModel):
    """What our own calls to other people's URLs may reach (architecture: 'Nobody let in')."""

    allowed_networks: tuple[Network, ...] = ()  # private ranges to be called all the same: docs/urls.md
    allowed_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (80, 443)  # these and no others


def _checked_key(key: SecretStr) -> SecretStr:
    """Raises ValueError for what Fernet would refuse at the first webhook."""
    try:
        length = len(urlsafe_b64decode(key.get_secret_value()))
    except ValueError:  # its own text may quote the key
        length = 0
    if length != FERNET_KEY_BYTES:
        raise ValueError("a key is 32 random bytes in URL-safe base64")
    return key


class WebhookSettings(OutboundSettings):
    """Telling others how an analysis ended."""

    # Of the signing secrets, a JSON list: the first encrypts, all decrypt. Empty: from the secret key.
    encryption_keys: tuple[Annotated[SecretStr, AfterValidator(_checked_key)], ...] = ()
    max_endpoints: Annotated[int, Field(ge=1)] = 20  # of one owner; each is called for every event
    keep_log: timedelta = timedelta(days=30)  # of deliveries that have ended, with their bodies and answers
    timeout: timedelta = timedelta(seconds=15)  # of one try; Standard Webhooks advises 15 to 30 s
    secret_overlap: timedelta = timedelta(hours=24)  # both secrets sign after a rotation
    disable_after: timedelta = timedelta(days=5)  # of nothing but failures


class SourceUrlSettings(OutboundSettings):
    """Fetching the file that a submission names by URL."""

    enabled: bool = True  # False: submissions by URL are refused
    connect_timeout: timedelta = timedelta(seconds=10)  # for all addresses of a name together
    idle_timeout: timedelta = timedelta(seconds=30)  # a server that is silent for longer has gone
    timeout: timedelta = timedelta(minutes=10)  # of the whole; 500 MiB at 1 MB/s is 9 minutes


class UploadSettings(BaseModel):
    """Files that go straight to the storage in parts."""

    part_bytes: Annotated[int, Field(ge=5 * MiB)] = 16 * MiB  # a lost part costs seconds, 500 MiB is 32
    # Of a presigned part; a client may ask for new ones. S3 takes no more than a week.
    url_ttl: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=7))] = timedelta(hours=1)
    ttl: timedelta = timedelta(hours=24)  # unused by then, the parts are dropped
    open: Annotated[int, Field(ge=1)] = 32  # of one owner, not used in an analysis yet: disk that costs


def _time_or_never(value: object) -> object:
    """An environment variable has no null."""
    return None if value in {"never", ""} else value


Kept = Annotated[timedelta | None, Field(ge=timedelta(0)), BeforeValidator(_time_or_never)]


class RetentionSettings(BaseModel):
    """When things are erased. A submission's `retention_hours` goes before `media`."""

    media: Kept = timedelta(days=30)  # files and pictures, after the end; `never`: with their analysis
    analyses: Kept = None  # the whole analysis, after its end; empty or `never`: when its owner deletes it
    # Objects that no row names and that are older. No other installation may use the bucket.
    orphans: Annotated[timedelta, Field(ge=timedelta(seconds=10))] = timedelta(hours=24)
    sweep: Annotated[timedelta, Field(ge=timedelta(seconds=1))] = timedelta(seconds=30)  # between two looks


class AdmissionSettings(BaseModel):
    """How much one key, and all together, may ask for."""

    in_flight: Annotated[int, Field(ge=1)] = 1000  # analyses of one key that have not ended
    uploads: Annotated[int, Field(ge=1)] = 8  # bodies that one key sends to one API process at once
    requests: Annotated[int, Field(ge=1)] = 600  # of one key, in each `window`
    submissions: Annotated[int, Field(ge=1)] = 300  # the same, of those that accept work
    window: Annotated[timedelta, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    failures: Annotated[int, Field(ge=1)] = 120  # refused keys of one address, in each `window`
    bodies: Annotated[int, Field(ge=1)] = 32  # uploads of all keys in one API process at once; 18 MiB each
    queued: Annotated[int, Field(ge=1)] = 20_000  # analyses of everybody that have not ended: a day's work
    min_free_bytes: Annotated[int, Field(ge=0)] = 1024 * MiB  # on `temp_dir`, when it is set, and on `disks`
    disks: tuple[Path, ...] = ()  # folders on other disks to watch, as a JSON list; `up` names its own


class NarratorSettings(BaseModel):
    """Who writes `detailed_analysis`. Without a key or a server the built-in template does."""

    # `gemini` needs GOOGLE_API_KEY; `openai` any server of that protocol at `base_url`
    provider: Literal["gemini", "openai", "template"] = "gemini"
    model: str = "gemini-2.5-flash"  # the product's first choice
    base_url: str | None = None  # None: Google's own; of an OpenAI-compatible server with its `/v1`
    api_key: SecretStr | None = None  # of an OpenAI-compatible server; local ones want none
    timeout: timedelta = timedelta(seconds=20)  # per attempt; p95 of a short answer is far below
    attempts: Annotated[int, Field(ge=1, le=5)] = 3
    retry_delay: timedelta = timedelta(seconds=0.5)  # before the first retry; doubles, at most 8 s
    calls_per_day: Annotated[int, Field(ge=0)] = 5000  # of all workers; about 10 USD of the default model
    breaker_failures: Annotated[int, Field(ge=1)] = 5  # in a row; then it is not asked for a while
    breaker_pause: timedelta = timedelta(minutes=1)  # a restart of a model server takes about that long

    @model_validator(mode="after")
    def _has_a_server(self) -> Self:
        """OpenAI's own address is no default: figures of a private analysis go only where they were sent."""
        if self.provider == "openai" and not self.base_url:
            raise ValueError("provider `openai` needs a base_url, e.g. http://127.0.0.1:8000/v1")
        return self


class Settings(BaseSettings):
    """One object for every process."""

    model_config = SettingsConfigDict(
        env_prefix="DEEPDEFEND_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        hide_input_in_errors=True,  # what is wrong may be a secret, and the message goes to logs
        populate_by_name=True,
    )

    environment: Literal["development", "production"] = "development"
    database_url: SecretStr  # postgresql://user:password@host:port/name
    broker_url: SecretStr  # redis://host:port/db
    # Keys the hashes of API keys and signs cursors; 32 characters are beyond guessing.
    secret_key: Annotated[SecretStr, Field(min_length=32)]
    s3: S3Settings = S3Settings()
    limits: Limits = Limits()
    steps: StepSettings = StepSettings()
    lanes: LaneSettings = LaneSettings()
    models: ModelSettings = ModelSettings()
    narrator: NarratorSettings = NarratorSettings()
    webhooks: WebhookSettings = WebhookSettings()
    source_url: SourceUrlSettings = SourceUrlSettings()
    uploads: UploadSettings = UploadSettings()
    retention: RetentionSettings = RetentionSettings()
    admission: AdmissionSettings = AdmissionSettings()
    # The variable that Google's own tools read, as in the product's first description.
    google_api_key: SecretStr | None = Field(default=None, validation_alias="GOOGLE_API_KEY")
    deadline: timedelta = timedelta(hours=6)  # an analysis that is not done by then has failed
    idempotency_ttl: timedelta = timedelta(hours=24)  # a client's night of retries; then its key is new again
    idempotency_lease: timedelta = timedelta(seconds=30)  # a killed upload's key is free again within this
    cors_origins: tuple[str, ...] = ()  # pages of other origins that may call the API: none
    # Asked of `/metrics` as a bearer token. None: open in development, closed in production.
    metrics_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    failpoint: str | None = None  # dies there, for tests (core/failpoints.py); refused in production
    allow_test_detectors: bool = False  # scores of test checkpoints mean nothing
    require_sandbox: bool = False  # True: refuse to decode with rlimits alone
    temp_dir: Path | None = None  # private decode folders; None: the system's
    flower_url: str | None = None  # shown to people, never called
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @field_validator("failpoint")
    @classmethod
    def _failpoint_is_known(cls, given: str | None) -> str | None:
        if given:
            failpoints.parse(given)
        return given

    @field_validator("cors_origins")
    @classmethod
    def _origins_can_match(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """A browser sends `scheme://host[:port]`; anything else would be silently useless."""
        if not all(origin == "*" or re.fullmatch(ORIGIN, origin) for origin in given):
            raise ValueError('an origin is `https://host`, `https://host:port` or `"*"`, in lower case')
        return given

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.environment == "production" and (refused := tuple(self.refusals())):
            raise ValueError(production.listed(refused))
        return self

    def refusals(self) -> Iterator[str]:
        """What production would not start with: the variable and why, never its value."""
        for name, secret in self._secrets():
            weak = production.weakness(secret.get_secret_value())
            if weak:
                yield f"{name}: {weak}"
        for name, known in self._credentials():
            if known is not None and production.is_shipped(known):
                yield f"{name}: everybody knows it"
        # Flower's own variable; only its process has it.
        weak = production.weak_accounts(os.environ.get("FLOWER_BASIC_AUTH", FLOWER_NOT_HERE))
        if weak:
            yield f"FLOWER_BASIC_AUTH: {weak}"
        if self.failpoint:
            yield "DEEPDEFEND_FAILPOINT kills processes on purpose: not in production"
        if self.allow_test_detectors:
            yield "DEEPDEFEND_ALLOW_TEST_DETECTORS: their scores mean nothing"
        if "*" in self.cors_origins:
            yield 'DEEPDEFEND_CORS_ORIGINS: "*" lets every page of the web call the API'
        if self.log_level == "debug":
            yield "DEEPDEFEND_LOG_LEVEL: debug lines of libraries have signatures and headers"

    def _secrets(self) -> Iterator[tuple[str, SecretStr]]:
        """What must be random."""
        yield "DEEPDEFEND_SECRET_KEY", self.secret_key
        if self.metrics_token is not None:
            yield "DEEPDEFEND_METRICS_TOKEN", self.metrics_token
        for key in self.webhooks.encryption_keys:
            yield "DEEPDEFEND_WEBHOOKS__ENCRYPTION_KEYS", key

    def _credentials(self) -> Iterator[tuple[str, str | None]]:
        """What other servers gave us."""
        for name, given in (
            ("DEEPDEFEND_S3__ACCESS_KEY_ID", self.s3.access_key_id),
            ("DEEPDEFEND_S3__SECRET_ACCESS_KEY", self.s3.secret_access_key),
        ):
            yield name, given.get_secret_value() if given is not None else None
        for name, url in (
            ("DEEPDEFEND_DATABASE_URL", self.database_url),
            ("DEEPDEFEND_BROKER_URL", self.broker_url),
        ):
            yield from ((name, known) for known in production.passwords_of(url.get_secret_value()))


class LocalSettings(BaseSettings):
    """The part of Settings that needs no database, no broker and no secret."""

    model_config = Settings.model_config

    models: ModelSettings = ModelSettings()
    limits: Limits = Limits()
    allow_test_detectors: bool = False
    require_sandbox: bool = False
    temp_dir: Path | None = None


def local_settings() -> LocalSettings:
    """Settings on a machine that runs no service. Raises pydantic.ValidationError for one out of bounds."""
    return LocalSettings()


def model_settings() -> tuple[ModelSettings, bool]:
    """Model settings, and whether test checkpoints are allowed, on a machine that runs no service.

    Raises pydantic.ValidationError for a value out of its bounds.
    """
    read = local_settings()
    return read.models, read.allow_test_detectors


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once. Raises pydantic.ValidationError when incomplete."""
    read = Settings()  # pyright: ignore[reportCallIssue]
    failpoints.arm(read.failpoint)
    return read
