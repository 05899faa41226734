"""What other S3 servers say when they are full, from one that says just that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from core.config import S3Settings
from core.errors import StorageError, StorageFull
from core.storage import S3Storage

ANSWERS = [
    (507, "XMinioStorageFull", True),
    (507, "InsufficientStorage", True),
    (507, "", True),
    (403, "QuotaExceeded", True),  # Ceph
    (400, "XMinioAdminBucketQuotaExceeded", True),
    (403, "AccessDenied", False),
    (400, "InvalidRequest", False),
]


class Refusing(ThreadingHTTPServer):
    """Answers every request with the same fault."""

    status, code = 507, ""


class Handler(BaseHTTPRequestHandler):
    server: Refusing

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"<Error><Code>{self.server.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def server() -> Iterator[Refusing]:
    with Refusing(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code", "full"), ANSWERS)
def test_a_full_storage_is_told_from_a_faulty_one(
    server: Refusing, status: int, code: str, *, full: bool
) -> None:
    server.status, server.code = status, code
    key = SecretStr("k" * 20)
    config = S3Settings(
        endpoint_url=f"http://127.0.0.1:{server.server_port}", access_key_id=key, secret_access_key=key
    )
    objects = S3Storage(config)
    small = objects.open_upload("media/x")
    small.write(b"abc")
    with pytest.raises(StorageError) as refused:
        small.complete()
    assert isinstance(refused.value, StorageFull) is full
    large = objects.open_upload("media/y")
    with pytest.raises(StorageError) as refused:
        large.write(bytes(config.part_bytes))
    assert isinstance(refused.value, StorageFull) is full
    assert refused.value.status_code == 503
