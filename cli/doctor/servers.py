"""The broker and the object storage, used as the product uses them."""

from __future__ import annotations

import secrets
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cli.doctor.database import skew
from cli.doctor.finding import Finding, fail, ok, skipped, warn
from core.config import MiB, S3Settings, Settings
from core.errors import NotFound, StorageError

#: Below this prefix nothing is kept longer than a look takes.
PREFIX: Final = ".deepdefend-doctor/"
PATIENCE: Final = 5.0  # seconds


def broker(url: str) -> Finding:
    """Whether it answers and will not throw messages away."""
    if urlsplit(url).scheme not in {"redis", "rediss"}:
        return skipped("broker", "not a Redis; its workers speak for it")
    try:
        import redis  # noqa: PLC0415 - a machine that only serves the API has none
    except ImportError:
        return skipped("broker", "no client for it on this machine")
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
            facts = client.info("server") | client.info("memory") | client.info("persistence")
    except (redis.RedisError, OSError, ValueError) as error:
        return fail(
            "broker",
            f"it does not answer: {error}",
            "Submissions are accepted, but wait until it is back.",
            "start it, or set DEEPDEFEND_BROKER_URL to where it is",
        )
    name = f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', facts.get('redis_version'))}"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and facts.get("maxmemory"):
        return warn(
            "broker",
            f"{name} evicts by {policy}",
            "When it is full it forgets queues; work is then found late.",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration",
            policy=policy,
        )
    return ok("broker", f"{name} answers", aof=bool(facts.get("aof_enabled")))


def storage(config: S3Settings) -> Iterator[Finding]:
    """Small and large objects there and back, and the clock."""
    from core.storage import storage as connect  # noqa: PLC0415 - boto3 takes half a second

    where = config.endpoint_url or "AWS"
    try:
        connect().check()
    except StorageError as error:
        yield fail(
            "storage",
            f"{where}: {error.detail}",
            "No file is accepted and no result can be shown.",
            "start it, or set DEEPDEFEND_S3__ENDPOINT_URL, __BUCKET and its keys",
            bucket=config.bucket,
        )
        yield from (skipped(name, "not known without the storage") for name in ("storage in parts", CLOCK))
        return
    yield _there_and_back("storage", config, secrets.token_bytes(64))
    # One part of the least size and one small one: a multipart upload of whatever the part size is.
    yield _there_and_back("storage in parts", config, secrets.token_bytes(config.part_bytes + 1))
    yield _clock(config)


CLOCK: Final = "clock of the storage"


def _there_and_back(check: str, config: S3Settings, content: bytes) -> Finding:
    from core.storage import storage as connect  # noqa: PLC0415

    key = f"{PREFIX}{secrets.token_hex(8)}"
    mode = config.checksum_mode.value
    try:
        upload = connect().open_upload(key)
        try:
            upload.write(content)
            upload.complete()
        except BaseException:
            upload.abort()
            raise
        back = connect().read(key)
        connect().delete(key)
        gone = _is_gone(key)
    except (StorageError, NotFound) as error:
        return fail(
            check,
            f"checksum mode {mode}: {error.detail}",
            "Files cannot be kept.",
            "give the key the right to read, write and delete; servers that are not AWS often need "
            "DEEPDEFEND_S3__CHECKSUM_MODE=when_required",
            checksum_mode=mode,
        )
    if back != content or not gone:
        what = "does not give back what was stored" if back != content else "keeps what was deleted"
        return fail(
            check,
            f"it {what}",
            "Results and erasure cannot be trusted.",
            "use another storage",
            checksum_mode=mode,
        )
    size = f"{len(content) / MiB:.0f} MiB in parts" if len(content) > MiB else f"{len(content)} bytes"
    return ok(check, f"{size} written, read and deleted, checksum mode {mode}", checksum_mode=mode)


def _is_gone(key: str) -> bool:
    from core.storage import storage as connect  # noqa: PLC0415

    try:
        connect().read(key)
    except NotFound:
        return True
    return False


def _clock(config: S3Settings) -> Finding:
    """By the Date of an answer, whatever it says otherwise; beyond 15 minutes signatures are refused."""
    url = config.endpoint_url or f"https://s3.{config.region}.amazonaws.com"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    before = time.time()
    try:
        with direct.open(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE) as answer:  # noqa: S310
            date = answer.headers.get("Date")
    except HTTPError as error:  # without a key it refuses, and says when
        date = error.headers.get("Date")
    except (OSError, ValueError) as error:
        return skipped(CLOCK, f"it does not say: {error}")
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return skipped(CLOCK, "it does not say")
    # It tells whole seconds, cut off: half a second is added.
    return skew(CLOCK, theirs + 0.5 - (before + time.time()) / 2)


def flower(settings: Settings, accounts: str | None) -> Finding:
    """Its accounts, when this environment has them."""
    from core import production  # noqa: PLC0415

    if accounts is None:
        return skipped("flower", "FLOWER_BASIC_AUTH is not set here; only Flower's own process needs it")
    weak = production.weak_accounts(accounts)
    if weak:
        found = fail if settings.environment == "production" else warn
        return found(
            "flower",
            f"FLOWER_BASIC_AUTH: {weak}",
            "Whoever reaches Flower can purge the queues.",
            "FLOWER_BASIC_AUTH=user:<a long random password>",
        )
    return ok("flower", "behind a password")
