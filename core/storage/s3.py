"""Any S3-compatible server, through boto3."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.config import ChecksumMode, S3Settings
from core.errors import Conflict, NotFound, StorageError, StorageFull
from core.storage.contract import Digest, LooseParts, StoredObject, StoredPart, Upload

#: S3 allows 10 000 parts; with 8 MiB parts that is 80 GB, far beyond any size limit here.
DELETE_BATCH = 1000  # keys in one DeleteObjects call, S3's own maximum
DIGEST_PIECE = 1024 * 1024  # bytes in memory while an object is hashed
#: HTTP's and the servers' words for a storage, or a quota in it, without room. SeaweedFS has none: it tries
#: for 30 s and answers like any other fault.
NO_ROOM, FULL = 507, frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
#: S3's words for "this is not the part that you mean" when parts are joined.
CHANGED_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})


@contextlib.contextmanager
def _translated(doing: str, *, missing: str | None = None) -> Iterator[None]:
    """Our errors for theirs. With `missing`, only that code is NotFound: a lost bucket is 404 too."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if _code(error) == missing if missing else status == 404:  # noqa: PLR2004 - HTTP's own number
            raise NotFound(f"{doing}: no such object") from error
        full = status == NO_ROOM or _code(error) in FULL
        raise (StorageFull if full else StorageError)(f"{doing}: {error}") from error
    except (BotoCoreError, Boto3Error, OSError) as error:  # boto3 wraps what befalls a file
        raise StorageError(f"{doing}: {error}") from error


def _code(error: BaseException | None) -> str | None:
    """S3's own name of what went wrong."""
    code: str | None = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    return code


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
        # Signs for others: they may know the server by another name, and send plain bytes, so that no
        # checksum may be promised for their parts. SigV4, since version 2 signs no length.
        public = config.model_copy(
            update={
                "endpoint_url": config.public_endpoint_url or config.endpoint_url,
                "checksum_mode": ChecksumMode.WHEN_REQUIRED,
            }
        )
        self._signer = boto3.client("s3", **_client_arguments(public, signature_version="s3v4"))

    def open_upload(self, key: str) -> Upload:
        """Begin a multipart upload to `key`."""
        return S3Upload(self._client, self._config.bucket, key, self._config.part_bytes)

    def upload_file(
        self,
        path: Path,
        key: str,
        *,
        content_type: str = "application/octet-stream",
        checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy a local file to `key`, in parts when it is large; `checkpoint` as in `download_file`."""
        with _translated(f"put {key}"):
            self._client.upload_file(
                str(path),
                self._config.bucket,
                key,
                ExtraArgs={"ContentType": content_type},
                Callback=lambda _bytes: checkpoint(),
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
        self.delete_all(keys)
        return len(keys)

    def delete_all(self, keys: Iterable[str]) -> None:
        """Delete these objects, many at a call. What stays is in the body of an answer that says 200."""
        batches = iter(keys)
        while batch := [{"Key": key} for key in islice(batches, DELETE_BATCH)]:
            with _translated("delete objects", missing="NoSuchKey"):
                answer = self._client.delete_objects(
                    Bucket=self._config.bucket, Delete={"Objects": batch, "Quiet": True}
                )
            for refused in answer.get("Errors", ()):
                raise StorageError(f"delete {refused.get('Key')}: {refused.get('Code')}")

    def keys(self, prefix: str) -> Iterator[str]:
        """Names below `prefix`, page by page."""
        for item in self.objects(prefix):
            yield item.key

    def objects(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """What is below `prefix` and after `after`, page by page."""
        with _translated(f"list {prefix}", missing="NoSuchKey"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._config.bucket, Prefix=prefix, **({"StartAfter": after} if after else {})
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield StoredObject(
                        key=item["Key"], size_bytes=item["Size"], modified=item["LastModified"]
                    )

    def digest(self, key: str, *, checkpoint: Callable[[], None] = lambda: None) -> Digest:
        """SHA-256 and size of an object, a piece at a time."""
        found, size = hashlib.sha256(), 0
        with _translated(f"get {key}", missing="NoSuchKey"):
            body = self._client.get_object(Bucket=self._config.bucket, Key=key)["Body"]
            with contextlib.closing(body):
                for piece in body.iter_chunks(DIGEST_PIECE):
                    found.update(piece)
                    size += len(piece)
                    checkpoint()
        return Digest(sha256=found.hexdigest(), size_bytes=size)

    def open_parts(self, key: str) -> str:
        """Begin a multipart upload whose parts come by `part_url`."""
        with _translated("open parts", missing="NoSuchUpload"):
            made = self._client.create_multipart_upload(Bucket=self._config.bucket, Key=key)
        multipart_id: str = made["UploadId"]
        return multipart_id

    def part_url(self, key: str, multipart_id: str, number: int, size_bytes: int, ttl: timedelta) -> str:
        """A presigned PUT; the length is signed, so that S3 refuses a body of another size."""
        parameters = {
            "Bucket": self._config.bucket,
            "Key": key,
            "UploadId": multipart_id,
            "PartNumber": number,
            "ContentLength": size_bytes,
        }
        with _translated("sign a part"):
            url: str = self._signer.generate_presigned_url(
                "upload_part", Params=parameters, ExpiresIn=int(ttl.total_seconds())
            )
        return url

    def parts(self, key: str, multipart_id: str) -> dict[int, StoredPart]:
        """The parts that have arrived, page by page."""
        with _translated("list parts", missing="NoSuchUpload"):
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._config.bucket, Key=key, UploadId=multipart_id
            )
            return {
                part["PartNumber"]: StoredPart(size_bytes=part["Size"], etag=part["ETag"])
                for page in pages
                for part in page.get("Parts", ())
            }

    def join_parts(self, key: str, multipart_id: str, parts: Mapping[int, StoredPart]) -> None:
        """Make one object of the parts, which must still be what they were when they were listed."""
        wanted = [{"PartNumber": number, "ETag": parts[number].etag} for number in sorted(parts)]
        try:
            with _translated("join parts", missing="NoSuchUpload"):
                self._client.complete_multipart_upload(
                    Bucket=self._config.bucket,
                    Key=key,
                    UploadId=multipart_id,
                    MultipartUpload={"Parts": wanted},
                )
        except StorageError as error:
            if _code(error.__cause__) in CHANGED_PARTS:
                raise Conflict("a part was sent again meanwhile", code="parts_changed") from error
            raise

    def abort_parts(self, key: str, multipart_id: str) -> None:
        """Drop the parts."""
        with contextlib.suppress(NotFound), _translated("drop parts", missing="NoSuchUpload"):
            self._client.abort_multipart_upload(Bucket=self._config.bucket, Key=key, UploadId=multipart_id)

    def stale_multipart_uploads(self, older_than: timedelta) -> list[LooseParts]:
        """Multipart uploads that began longer ago; those of rows in `core.uploads` may be among them."""
        before = datetime.now(UTC) - older_than
        with _translated("list multipart uploads", missing="NoSuchUpload"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._config.bucket)
            return [
                LooseParts(key=item["Key"], multipart_id=item["UploadId"])
                for page in pages
                for item in page.get("Uploads", ())
                if item["Initiated"] < before
            ]

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


def _client_arguments(config: S3Settings, **options: Any) -> dict[str, Any]:
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
            **options,
        ),
    }
