"""What erasing asks of the storage: listings from a point on, and deletions that say what stayed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.config import S3Settings, settings
from core.errors import StorageError
from core.storage import S3Storage, storage
from tests.core.eraser import put

#: What S3 says when it deleted one of two: its answer is 200 all the same.
HALF_DONE = b"""<?xml version="1.0" encoding="UTF-8"?>
<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Error><Key>b</Key><Code>AccessDenied</Code><Message>Object is locked</Message></Error></DeleteResult>"""


@pytest.fixture
def prefix(bucket: str) -> str:
    assert bucket
    return f"tests/{secrets.token_hex(8)}/"


def test_a_listing_tells_names_sizes_and_times(prefix: str) -> None:
    put(prefix + "a", b"12345")
    put(prefix + "b", b"")
    found = list(storage().objects(prefix))
    assert [(item.key, item.size_bytes) for item in found] == [(prefix + "a", 5), (prefix + "b", 0)]
    for item in found:
        assert abs(item.modified - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("after", "found"), [("", "abc"), ("a", "bc"), ("aa", "bc"), ("b", "c"), ("c", ""), ("zz", "")]
)
def test_a_listing_goes_on_from_any_name(prefix: str, after: str, found: str) -> None:
    for name in "abc":
        put(prefix + name)
    listed = storage().objects(prefix, after=prefix + after)
    assert [item.key.removeprefix(prefix) for item in listed] == list(found)


def test_only_what_is_named_is_deleted_and_what_is_not_there_is_no_error(prefix: str) -> None:
    for name in "abc":
        put(prefix + name)
    storage().delete_all([prefix + name for name in ("a", "c", "never was")])
    assert list(storage().keys(prefix)) == [prefix + "b"]
    storage().delete_all([])


def test_a_thousand_and_one_are_deleted_in_two_calls(prefix: str) -> None:
    kept = put(prefix + "0")
    storage().delete_all([kept, *(f"{prefix}{n}" for n in range(1, 1001))])
    assert list(storage().keys(prefix)) == []


@pytest.fixture
def refusing() -> Iterator[S3Storage]:
    """An S3 that deletes what it likes and answers 200."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(HALF_DONE)))
            self.end_headers()
            self.wfile.write(HALF_DONE)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}
    made = S3Storage(S3Settings.model_validate(address | {"access_key_id": "a", "secret_access_key": "b"}))
    yield made
    made._client.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_deletion_that_left_something_is_an_error(refusing: S3Storage) -> None:
    with pytest.raises(StorageError, match="delete b: AccessDenied"):
        refusing.delete_all(["a", "b"])


def test_a_bucket_that_is_not_there_is_an_outage_and_not_an_empty_one(bucket: str) -> None:
    assert bucket
    absent = S3Storage(settings().s3.model_copy(update={"bucket": "absent-bucket"}))
    with pytest.raises(StorageError):
        list(absent.objects("media/"))
    with pytest.raises(StorageError):
        absent.delete_all(["media/a"])
