from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from anyio import CapacityLimiter
from sqlalchemy import event
from sqlalchemy.orm import Session
from starlette.requests import Request

from api.upload import Intake, receive
from core.analyses import StoredUpload
from core.config import Limits, MiB
from core.errors import MalformedUpload, StorageError
from core.models import Analysis, Media, Step
from core.storage import S3Storage, storage
from tests.api.conftest import Bucket, rows, send
from tests.api.server import BOUNDARY, Raw, eventually, form, part, serving

URL = "/v1/analyses"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def begin(raw: Raw, key: str, *headers: str) -> None:
    """The head of an upload and the start of its file, 9 MiB: enough for a part to be in the storage."""
    raw.head(f"Authorization: Bearer {key}", f"Content-Type: {CONTENT_TYPE}", *headers)
    raw.send(part("file", bytes(9 * MiB), filename="a")[:-2])


def test_a_caller_who_hangs_up_leaves_nothing(
    address: tuple[str, int], key: str, media: Bucket, logs: list[Any]
) -> None:
    with Raw(address) as raw:
        begin(raw, key, f"Content-Length: {20 * MiB}")
        assert eventually(lambda: media.unfinished() != []), "the first part went to the storage"
        raw.file.close()
        raw.socket.close()
        assert eventually(lambda: media.unfinished() == [])
        assert eventually(lambda: any(line.get("status") == 499 for line in logs))
    assert rows(Analysis) == []


def test_a_caller_who_goes_silent_is_given_up(
    address: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__UPLOAD_IDLE="PT0.3S")
    with Raw(address) as raw:
        begin(raw, key, f"Content-Length: {20 * MiB}")
        status, headers, problem = raw.answer()
        assert (status, problem["code"]) == (408, "upload_stalled")
        assert headers["connection"] == "close"
        assert media.unfinished() == []
        assert raw.closed()


def test_a_server_that_stops_gives_back_what_it_had_stored(key: str, media: Bucket) -> None:
    with serving(timeout_graceful_shutdown=1) as address, Raw(address) as raw:
        begin(raw, key, f"Content-Length: {20 * MiB}")
        assert eventually(lambda: media.unfinished() != [])
    assert eventually(lambda: media.unfinished() == [])


def test_a_caller_who_asks_first_is_told_to_go_on(address: tuple[str, int], key: str, media: Bucket) -> None:
    body = form(part("file", b"abc", filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            "Expect: 100-continue",
        )
        assert raw.answer()[0] == 100
        raw.send(body)
        assert raw.answer()[0] == 202
    assert len(media.names()) == 1


def test_a_storage_that_is_away_is_a_503(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(S3__ENDPOINT_URL="http://127.0.0.1:1")
    for size in (10, 9 * MiB):
        response = send(http, bytes(size))
        assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
        assert "127.0.0.1" not in response.text, "our insides are nobody's business"
        assert response.headers["retry-after"] == "5"
    assert rows(Analysis) == []
    assert media.names() == set()


class DyingStorage:
    """A door to the real storage that shuts for good after some bytes."""

    def __init__(self, target: int, allow: int) -> None:
        self._target, self._allow = target, allow
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._relay, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _relay(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = threading.Thread(target=self._pump, args=(far, near))
            back.start()
            while self._allow > 0 and (data := near.recv(65536)):
                self._allow -= len(data)
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join()


def test_a_storage_that_dies_in_the_middle_is_a_503_and_the_next_upload_works(
    http: httpx2.Client,
    media: Bucket,
    s3: Any,
    bucket: str,
    set_settings: Callable[..., None],
    logs: list[Any],
) -> None:
    dying = DyingStorage(s3.port, 10 * MiB)
    set_settings(S3__ENDPOINT_URL=f"http://127.0.0.1:{dying.port}")
    response = send(http, bytes(20 * MiB))
    dying.close()
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert any(line.get("action") == "abort_failed" for line in logs), "what stays behind is said"
    assert rows(Analysis) == []
    for left in media.unfinished():  # nobody could reach the storage to take this back
        for upload in s3.client().list_multipart_uploads(Bucket=bucket)["Uploads"]:
            s3.client().abort_multipart_upload(Bucket=bucket, Key=left, UploadId=upload["UploadId"])
    set_settings(S3__ENDPOINT_URL=s3.url)
    assert send(http, bytes(20 * MiB)).status_code == 202


def refuse(message: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        raise RuntimeError(message)

    return hook


def test_bytes_that_could_not_be_owed_are_deleted(http: httpx2.Client, media: Bucket) -> None:
    hook = refuse("the insert broke")
    event.listen(Step, "before_insert", hook)
    try:
        response = send(http, b"abc")
    finally:
        event.remove(Step, "before_insert", hook)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "the insert broke" not in response.text
    assert media.names() == set()
    assert rows(Media) == []


def test_bytes_of_a_commit_that_may_have_happened_are_kept(http: httpx2.Client, media: Bucket) -> None:
    def break_line(session: Session) -> None:
        if any(isinstance(row, Analysis) for row in session.identity_map.values()):
            raise RuntimeError("the line broke at commit")

    event.listen(Session, "before_commit", break_line)
    try:
        response = send(http, b"abc")
    finally:
        event.remove(Session, "before_commit", break_line)
    assert response.status_code == 500
    assert len(media.names()) == 1


def test_a_surplus_object_that_cannot_be_deleted_does_not_undo_the_acceptance(
    http: httpx2.Client, media: Bucket, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    def away(*_: Any) -> None:
        raise StorageError

    assert send(http, b"same").status_code == 202
    monkeypatch.setattr(S3Storage, "delete", away)
    assert send(http, b"same").status_code == 202
    assert any(line.get("action") == "discard_failed" for line in logs)
    assert len(media.names()) == 2
    assert len(rows(Analysis)) == 2


@pytest.mark.usefixtures("address")
def test_a_stored_file_that_nobody_will_own_can_be_taken_back(media: Bucket) -> None:
    """The server may be stopped between the last byte and the acceptance."""
    intake = Intake(BOUNDARY.encode(), Limits(), storage)
    intake.feed(form(part("file", bytes(9 * MiB), filename="a")))
    source = intake.finish().source
    assert isinstance(source, StoredUpload)
    assert media.names() == {source.object_key}
    for _ in range(2):
        intake.abort()
    assert media.names() == set()


@pytest.mark.parametrize("length", ["soon", "-1", "1e3", "9" * 20, "\u0663"])
def test_a_length_that_is_no_number_is_malformed(length: str) -> None:
    """h11 refuses these itself; another server may not."""
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", length.encode("utf-8"))]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers})
    with pytest.raises(MalformedUpload):
        asyncio.run(receive(request, Limits(), storage, CapacityLimiter(1)))
