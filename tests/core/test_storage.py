"""Objects in a real S3 server."""

from __future__ import annotations

import gc
import os
import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.config import ChecksumMode, S3Settings, settings
from core.errors import Fenced, NotFound, StorageError
from core.storage import S3Storage, storage

PART = 5 * 1024 * 1024


@pytest.fixture(params=list(ChecksumMode))
def objects(bucket: str, request: pytest.FixtureRequest) -> S3Storage:
    assert bucket
    config = settings().s3.model_copy(update={"checksum_mode": request.param, "part_bytes": PART})
    return S3Storage(config)


@pytest.fixture
def key() -> str:
    return f"tests/{secrets.token_hex(8)}/object"


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART + 7])
def test_what_is_written_in_pieces_is_read_whole(objects: S3Storage, key: str, size: int) -> None:
    data = os.urandom(size)
    upload = objects.open_upload(key)
    for first in range(0, size, 700_001):
        upload.write(data[first : first + 700_001])
    upload.complete()
    assert objects.read(key) == data


def test_nothing_is_visible_before_completion_or_after_an_abort(objects: S3Storage, key: str) -> None:
    upload = objects.open_upload(key)
    upload.write(os.urandom(PART + 1))
    with pytest.raises(NotFound):
        objects.read(key)
    upload.abort()
    upload.abort()
    with pytest.raises(NotFound):
        objects.read(key)
    listed = objects._client.list_multipart_uploads(Bucket=settings().s3.bucket)
    assert key not in [item["Key"] for item in listed.get("Uploads", ())]


def test_one_large_write_is_sent_in_parts(objects: S3Storage, key: str) -> None:
    data = os.urandom(3 * PART)
    upload = objects.open_upload(key)
    upload.write(data)
    assert len(upload._buffer) < PART  # type: ignore[attr-defined]
    upload.complete()
    assert objects.read(key) == data


def test_files_go_there_and_back(objects: S3Storage, key: str, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(300_000))
    objects.upload_file(source, key, content_type="image/jpeg")
    objects.download_file(key, back)
    assert back.read_bytes() == source.read_bytes()
    head = objects._client.head_object(Bucket=settings().s3.bucket, Key=key)
    assert head["ContentType"] == "image/jpeg"


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # boto3 leaves the socket to us
def test_a_download_stops_at_its_checkpoint(objects: S3Storage, key: str, tmp_path: Path) -> None:
    source = tmp_path / "there"
    source.write_bytes(os.urandom(9 * PART))
    objects.upload_file(source, key)

    def stop() -> None:
        raise Fenced

    with pytest.raises(Fenced):
        objects.download_file(key, tmp_path / "back", checkpoint=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["there"], "nor is a part of it left"
    gc.collect()  # which closes the socket


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as above, the file
@pytest.mark.parametrize("size", [PART // 2, 9 * PART])
@pytest.mark.parametrize("calls", [1, 3])
def test_an_upload_stops_at_its_checkpoint_and_leaves_nothing(
    objects: S3Storage, key: str, tmp_path: Path, size: int, calls: int
) -> None:
    source = tmp_path / "there"
    source.write_bytes(os.urandom(size))
    seen: list[None] = []

    def stop() -> None:
        seen.append(None)
        if len(seen) >= calls:
            raise Fenced

    with pytest.raises(Fenced):
        objects.upload_file(source, key, checkpoint=stop)
    assert list(objects.keys(key)) == []
    assert not objects._client.list_multipart_uploads(Bucket=settings().s3.bucket).get("Uploads")
    gc.collect()


def test_a_range_is_a_slice(objects: S3Storage, key: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)))
    objects.upload_file(source, key)
    assert objects.read_range(key, 10, 20) == bytes(range(10, 20))
    assert objects.read_range(key, 250, 999) == bytes(range(250, 256))


def test_a_missing_object_is_not_found(objects: S3Storage, key: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        objects.read(key)
    with pytest.raises(NotFound):
        objects.read_range(key, 0, 1)
    with pytest.raises(NotFound):
        objects.download_file(key, tmp_path / "none")
    objects.delete(key)


def test_a_prefix_is_deleted_with_all_below_it_and_nothing_beside(
    objects: S3Storage, key: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    names = [f"{key}/work-1/a", f"{key}/work-2/b/c", f"{key}/pictures-1/d"]
    for name in names:
        objects.upload_file(source, name)
    assert objects.delete_prefix(f"{key}/work-") == 2
    assert list(objects.keys(f"{key}/")) == [names[2]]
    objects.delete(names[2])
    assert objects.delete_prefix(key) == 0


def test_the_bucket_answers_or_says_why_not(objects: S3Storage) -> None:
    objects.check()
    absent = S3Storage(settings().s3.model_copy(update={"bucket": "absent-bucket"}))
    with pytest.raises(StorageError, match="absent-bucket does not exist"):
        absent.check()
    absent.ensure_bucket()
    absent.ensure_bucket()
    absent.check()
    absent._client.delete_bucket(Bucket="absent-bucket")


def test_a_refused_file_is_a_storage_error_too(key: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    refused = S3Storage(settings().s3.model_copy(update={"secret_access_key": SecretStr("wrong")}))
    with pytest.raises(StorageError, match="put "):
        refused.upload_file(tmp_path / "a", key)


def test_a_dead_server_is_a_storage_error(key: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    dead = S3Storage(
        S3Settings.model_validate(
            {"endpoint_url": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "b"}
        )
    )
    for call in (
        dead.check,
        lambda: dead.read(key),
        lambda: list(dead.keys("a")),
        lambda: dead.upload_file(tmp_path / "a", key),
        lambda: dead.download_file(key, tmp_path / "b"),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.status_code == 503


def test_a_process_has_one_storage(bucket: str) -> None:
    assert bucket
    assert storage() is storage()
