"""Presigned parts against a real S3 server, in both checksum modes, sent by a client that knows no S3."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import secrets
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import structlog

from core import logging as our_logging
from core.config import ChecksumMode, S3Settings, settings
from core.errors import Conflict, Fenced, NotFound, StorageError
from core.storage import S3Storage, StoredPart

PART = 5 * 1024 * 1024
HOUR = timedelta(hours=1)


@pytest.fixture(params=list(ChecksumMode))
def objects(bucket: str, request: pytest.FixtureRequest) -> S3Storage:
    assert bucket
    return S3Storage(settings().s3.model_copy(update={"checksum_mode": request.param}))


@pytest.fixture
def key(objects: S3Storage) -> Iterator[str]:
    name = f"tests/{secrets.token_hex(8)}/object"
    yield name
    for left in objects.stale_multipart_uploads(timedelta(0)):
        objects.abort_parts(left.key, left.multipart_id)


def put(url: str, data: bytes, **headers: str) -> httpx2.Response:
    return httpx2.put(url, content=data, headers=headers, timeout=30, trust_env=False)


def refused(response: httpx2.Response) -> str:
    assert response.status_code == 403
    return response.text.partition("<Code>")[2].partition("</Code>")[0]


def test_parts_that_others_sent_become_one_object(objects: S3Storage, key: str) -> None:
    data = os.urandom(2 * PART + 77)
    identity = objects.open_parts(key)
    for number, first in enumerate(range(0, len(data), PART), 1):
        piece = data[first : first + PART]
        sent = put(objects.part_url(key, identity, number, len(piece), HOUR), piece)
        assert sent.status_code == 200
        assert objects.parts(key, identity)[number] == StoredPart(
            size_bytes=len(piece), etag=sent.headers["etag"]
        )
    with pytest.raises(NotFound):
        objects.digest(key)
    objects.join_parts(key, identity, objects.parts(key, identity))
    assert objects.read(key) == data
    found = objects.digest(key)
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_length_is_signed_to_the_byte(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, HOUR)
    for wrong in (b"", bytes(999), bytes(1001), bytes(PART)):
        assert refused(put(url, wrong)) == "SignatureDoesNotMatch"
    assert objects.parts(key, identity) == {}
    assert put(url, bytes(1000)).status_code == 200


def test_a_body_of_unknown_length_is_refused(objects: S3Storage, key: str) -> None:
    url = objects.part_url(key, objects.open_parts(key), 1, 1000, HOUR)
    sent = httpx2.put(url, content=iter([bytes(500), bytes(500)]), timeout=30, trust_env=False)
    assert sent.status_code == 403


def test_nothing_else_can_be_done_with_an_address(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, HOUR)
    others = [
        url.replace("partNumber=1", "partNumber=2"),
        url.replace("partNumber=1", "partNumber=10001"),
        url.replace(f"uploadId={identity}", "uploadId=" + "0" * len(identity)),
        url.replace(key, key + "-2"),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=604800"),
    ]
    assert [put(other, bytes(1000)).status_code for other in others] == [403] * len(others)
    for method in ("GET", "DELETE", "POST"):
        response = httpx2.request(method, url, timeout=30, trust_env=False)
        assert response.status_code in {403, 405}
    assert objects.parts(key, identity) == {}


def test_an_address_dies(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, timedelta(seconds=1))
    asked = parse_qs(urlsplit(url).query)
    assert asked["X-Amz-Expires"] == ["1"]
    assert asked["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert not {name for name in asked if "checksum" in name.lower()}
    late = url.replace(asked["X-Amz-Date"][0], "20200101T000000Z")
    assert put(late, bytes(1000)).status_code == 403


def test_only_listed_parts_are_joined(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    put(objects.part_url(key, identity, 1, 1000, HOUR), bytes(1000))
    seen = objects.parts(key, identity)
    for other in ({1: StoredPart(size_bytes=1000, etag='"' + "0" * 32 + '"')}, seen | {2: seen[1]}):
        with pytest.raises(Conflict) as caught:
            objects.join_parts(key, identity, other)
        assert caught.value.code == "parts_changed"
    objects.join_parts(key, identity, seen)
    assert objects.read(key) == bytes(1000)


def test_a_part_that_is_sent_again_is_one_of_the_two(objects: S3Storage, key: str) -> None:
    """Which one is the storage's business; what was listed is what is joined, and only that is hashed."""
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, HOUR)
    assert [put(url, os.urandom(1000)).status_code for _ in range(2)] == [200, 200]
    listed = objects.parts(key, identity)
    objects.join_parts(key, identity, listed)
    assert hashlib.md5(objects.read(key)).hexdigest() == listed[1].etag.strip('"')  # noqa: S324 - S3's own


def test_after_the_end_there_is_nothing_to_send_to(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, HOUR)
    put(url, bytes(1000))
    objects.join_parts(key, identity, objects.parts(key, identity))
    with pytest.raises(NotFound):
        objects.parts(key, identity)
    assert put(url, os.urandom(1000)).status_code == 404
    assert objects.read(key) == bytes(1000)


def test_dropped_parts_are_gone_and_may_be_dropped_again(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    url = objects.part_url(key, identity, 1, 1000, HOUR)
    put(url, bytes(1000))
    objects.abort_parts(key, identity)
    objects.abort_parts(key, identity)
    with pytest.raises(NotFound):
        objects.parts(key, identity)
    with pytest.raises(NotFound):
        objects.join_parts(key, identity, {1: StoredPart(size_bytes=1000, etag='"x"')})
    assert put(url, bytes(1000)).status_code == 404


def test_only_old_parts_are_stale(objects: S3Storage, key: str) -> None:
    identity = objects.open_parts(key)
    assert objects.stale_multipart_uploads(HOUR) == []
    (found,) = objects.stale_multipart_uploads(timedelta(0))
    assert (found.key, found.multipart_id) == (key, identity)


def test_a_bucket_that_is_away_is_no_lost_upload(objects: S3Storage, key: str) -> None:
    """Both are 404; taking one for the other would drop a file that is there."""
    elsewhere = S3Storage(settings().s3.model_copy(update={"bucket": "no-such-bucket"}))
    identity = objects.open_parts(key)
    for call in (
        lambda: elsewhere.parts(key, identity),
        lambda: elsewhere.join_parts(key, identity, {}),
        lambda: elsewhere.abort_parts(key, identity),
        lambda: elsewhere.digest(key),
        lambda: elsewhere.stale_multipart_uploads(HOUR),
    ):
        with pytest.raises(StorageError):
            call()


def test_reading_through_stops_at_its_checkpoint(objects: S3Storage, key: str) -> None:
    upload = objects.open_upload(key)
    upload.write(bytes(3 * 1024 * 1024))
    upload.complete()
    pieces: list[int] = []

    def stop() -> None:
        pieces.append(1)
        if len(pieces) == 2:
            raise Fenced

    with pytest.raises(Fenced):
        objects.digest(key, checkpoint=stop)
    assert len(pieces) == 2


def test_others_may_know_the_server_by_another_name() -> None:
    """Signing asks nobody: no server need be there."""
    config = S3Settings.model_validate(
        {
            "endpoint_url": "http://127.0.0.1:1",
            "public_endpoint_url": "https://files.example.org",
            "access_key_id": "a",
            "secret_access_key": "b",
        }
    )
    url = S3Storage(config).part_url("media/x", "upload", 7, 1000, HOUR)
    assert url.startswith("https://files.example.org/deepdefend/media/x?")
    own = config.model_copy(update={"public_endpoint_url": None})
    assert S3Storage(own).part_url("media/x", "upload", 7, 1000, HOUR).startswith("http://127.0.0.1:1/")


def test_no_log_has_an_address_even_when_debugging(
    objects: S3Storage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, written = logging.getLogger(), io.StringIO()
    before = root.handlers, root.level
    monkeypatch.setattr("sys.stderr", written)
    our_logging.configure(settings().model_copy(update={"log_level": "debug"}), "test")
    try:
        url = objects.part_url(key, objects.open_parts(key), 1, 1000, HOUR)
    finally:
        root.handlers, level = before
        root.setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    assert parse_qs(urlsplit(url).query)["X-Amz-Signature"][0] not in written.getvalue()
    assert "CanonicalRequest" not in written.getvalue()
