"""Object storage: any S3-compatible server. Streams in parts, so memory does not grow with a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.config import S3Settings, settings
from core.errors import NotFound, StorageError

#: S3 allows 10 000 parts; with 8 MiB parts that is 80 GB, far beyond any size limit here.
DELETE_BATCH = 1000  # keys in one DeleteObjects call, S3's own maximum


class Upload(Protocol):
    """An object being written. Nothing is visible under its key before `complete`."""

    def write(self, data: bytes) -> None:
        """Append bytes; blocks while a full part is sent."""
        ...

    def complete(self) -> None:
        """Make the object visible."""
        ...

    def abort(self) -> None:
        """Forget what was sent. May be called at any time, also twice."""
        ...


class Storage(Protocol):
    """What the product needs of a storage. Every method raises StorageError when it does not answer."""

    def open_upload(self, key: str) -> Upload:
        """Begin to write an object of unknown size."""
        ...

    def upload_file(self, path: Path, key: str, *, content_type: str = "application/octet-stream") -> None:
        """Copy a local file to `key`."""
        ...

    def download_file(self, key: str, path: Path, *, checkpoint: Callable[[], None] = lambda: None) -> None:
        """Copy an object to a local file. Raises NotFound, and what `checkpoint` raises on the way."""
        ...

    def read(self, key: str) -> bytes:
        """The whole of a small object. Raises NotFound."""
        ...

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` (inclusive) to `end` (exclusive). Raises NotFound."""
        ...

    def delete(self, key: str) -> None:
        """Delete one object; a missing one is no error."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix`; returns how many there were."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Names of the objects below `prefix`."""
        ...

    def check(self) -> None:
        """Raise StorageError unless the bucket answers."""
        ...


@contextlib.contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:  # noqa: PLR2004 - HTTP's own number
            raise NotFound(f"{doing}: no such object") from error
        raise StorageError(f"{doing}: {error}") from error
    except (BotoCoreError, Boto3Error, OSError) as error:  # boto3 wraps what befalls a file
        raise StorageError(f"{doing}: {error}") from error


class S3Upload:
    """A multipart upload; a small object is sent with one PUT."""

    def __init__(self, client: Any, bucket: str, key: str, part_bytes: int) -> None:
        self._client, self._bucket, self._key, self._part_bytes = client, bucket, key, part_bytes
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._upload_id: str | None = None

    def write(self, data: bytes) -> None:
        """Append bytes; sends a part whenever one is full."""
        self._buffer += data
        while len(self._buffer) >= self._part_bytes:
            part = bytes(self._buffer[: self._part_bytes])
            del self._buffer[: self._part_bytes]
            self._send(part)

    def _send(self, part: bytes) -> None:
        target = {"Bucket": self._bucket, "Key": self._key}
        with _translated("upload"):
            if self._upload_id is None:
                self._upload_id = self._client.create_multipart_upload(**target)["UploadId"]
            number = len(self._parts) + 1
            sent = self._client.upload_part(**target, UploadId=self._upload_id, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    def complete(self) -> None:
        """Make the object visible under its key."""
        target = {"Bucket": self._bucket, "Key": self._key}
        if self._upload_id is None:
            with _translated("upload"):
                self._client.put_object(**target, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        with _translated("upload"):
            self._client.complete_multipart_upload(
                **target, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
            )
        self._upload_id = None

    def abort(self) -> None:
        """Give back the parts that were sent."""
        self._buffer.clear()
        if self._upload_id is not None:
            upload_id, self._upload_id = self._upload_id, None
            with _translated("abort upload"):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=upload_id)


class S3Storage:
    """Storage in one bucket. Safe to share between threads."""

    def __init__(self, config: S3Settings) -> None:
        self._config = config
        self._client = boto3.client("s3", **_client_arguments(config))

    def open_upload(self, key: str) -> Upload:
        """Begin a multipart upload to `key`."""
        return S3Upload(self._client, self._config.bucket, key, self._config.part_bytes)

    def upload_file(self, path: Path, key: str, *, content_type: str = "application/octet-stream") -> None:
        """Copy a local file to `key`, in parts when it is large."""
        with _translated(f"put {key}"):
            self._client.upload_file(
                str(path), self._config.bucket, key, ExtraArgs={"ContentType": content_type}
            )

    def download_file(self, key: str, path: Path, *, checkpoint: Callable[[], None] = lambda: None) -> None:
        """Copy an object to a local file; `checkpoint` is called, from any thread, with each piece."""
        with _translated(f"get {key}"):
            self._client.download_file(
                self._config.bucket, key, str(path), Callback=lambda _bytes: checkpoint()
            )

    def read(self, key: str) -> bytes:
        """The whole object, in memory."""
        with _translated(f"get {key}"):
            body: bytes = self._client.get_object(Bucket=self._config.bucket, Key=key)["Body"].read()
        return body

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """A slice of the object; shorter when the object ends before `end`."""
        with _translated(f"get {key}"):
            answer = self._client.get_object(
                Bucket=self._config.bucket, Key=key, Range=f"bytes={start}-{end - 1}"
            )
            body: bytes = answer["Body"].read()
        return body

    def delete(self, key: str) -> None:
        """Delete one object; a missing one is no error."""
        with _translated(f"delete {key}"):
            self._client.delete_object(Bucket=self._config.bucket, Key=key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix`."""
        keys = list(self.keys(prefix))
        for first in range(0, len(keys), DELETE_BATCH):
            batch = [{"Key": key} for key in keys[first : first + DELETE_BATCH]]
            with _translated(f"delete {prefix}"):
                self._client.delete_objects(
                    Bucket=self._config.bucket, Delete={"Objects": batch, "Quiet": True}
                )
        return len(keys)

    def keys(self, prefix: str) -> Iterator[str]:
        """Names below `prefix`, page by page."""
        with _translated(f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._config.bucket, Prefix=prefix
            )
            for page in pages:
                yield from (item["Key"] for item in page.get("Contents", ()))

    def check(self) -> None:
        """Raise StorageError unless the bucket answers."""
        try:
            with _translated("check"):
                self._client.head_bucket(Bucket=self._config.bucket)
        except NotFound as error:
            raise StorageError(f"bucket {self._config.bucket} does not exist") from error

    def ensure_bucket(self) -> None:
        """Create the bucket when it is missing (development and Compose; production brings its own)."""
        try:
            self.check()
        except StorageError:
            with _translated("create bucket"):
                self._client.create_bucket(Bucket=self._config.bucket)


def _client_arguments(config: S3Settings) -> dict[str, Any]:
    return {
        "endpoint_url": config.endpoint_url,
        "region_name": config.region,
        "aws_access_key_id": config.access_key_id and config.access_key_id.get_secret_value(),
        "aws_secret_access_key": config.secret_access_key and config.secret_access_key.get_secret_value(),
        "config": Config(
            request_checksum_calculation=config.checksum_mode.value,
            response_checksum_validation=config.checksum_mode.value,
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if config.endpoint_url else {},
        ),
    }


@lru_cache(maxsize=1)
def storage() -> S3Storage:
    """The storage of this process, created on first use."""
    return S3Storage(settings().s3)
