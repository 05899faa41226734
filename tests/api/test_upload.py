from __future__ import annotations

import hashlib
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from api.form import FIELD_BOUNDS
from api.upload import FORM_OVERHEAD
from core import db
from core.config import MiB
from core.domain import Stage
from core.errors import StorageError
from core.models import Analysis, Media, Step
from core.storage import S3Storage
from tests.api.conftest import Bucket, client, make_key
from tests.api.server import BOUNDARY, Raw, form, part, serving

URL = "/v1/analyses"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def send(http: httpx2.Client, content: bytes, name: str = "clip.mp4", **fields: str) -> httpx2.Response:
    return http.post(URL, files={"file": (name, content)}, data=fields)


def rows(table: type[Any]) -> list[Any]:
    with db.read() as session:
        return list(session.scalars(select(table)).unique())


def eventually(condition: Callable[[], bool], attempts: int = 400) -> bool:
    """Waits for what another process does in its own time; says False rather than never."""
    tick = threading.Event()
    return any(condition() or tick.wait(0.05) for _ in range(attempts))


def test_a_small_file_is_accepted_and_owed(http: httpx2.Client, media: Bucket) -> None:
    content = secrets.token_bytes(5000)
    response = send(http, content, interval_seconds="1.5", frames_per_interval="3", metadata='{"case": 7}')
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"{URL}/{body['id']}" == body["links"]["self"]
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["etag"] == 'W/"1"'
    assert body["status"] == "queued"
    assert body["options"] == {"interval_seconds": 1.5, "frames_per_interval": 3}
    assert body["metadata"] == {"case": 7}
    assert body["media"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": 5000,
        "filename": "clip.mp4",
        "facts": None,
    }
    assert body["progress"] == {
        "fraction": 0.0,
        "stages": [{"stage": "extract", "status": "pending", "done": 0, "total": 1, "reasons": []}],
    }
    for unknown in ("verdict", "confidence", "report", "error", "started_at", "completed_at"):
        assert body[unknown] is None
    (stored,) = media.names()
    assert media.read(stored) == content
    assert [(step.stage, step.status) for step in rows(Step)] == [(Stage.EXTRACT.value, "pending")]


def test_a_file_of_many_parts_arrives_whole(http: httpx2.Client, media: Bucket) -> None:
    content = secrets.token_bytes(20 * MiB + 12_345)
    response = send(http, content)
    assert response.json()["media"]["sha256"] == hashlib.sha256(content).hexdigest()
    (stored,) = media.names()
    assert hashlib.sha256(media.read(stored)).digest() == hashlib.sha256(content).digest()


def test_the_same_bytes_of_one_owner_are_stored_once(
    http: httpx2.Client, address: tuple[str, int], media: Bucket
) -> None:
    content = secrets.token_bytes(9 * MiB)
    first, second = send(http, content, "a.mp4").json(), send(http, content, "b.mp4").json()
    assert first["id"] != second["id"]
    assert (first["media"]["filename"], second["media"]["filename"]) == ("a.mp4", "b.mp4")
    assert len(media.names()) == len(rows(Media)) == 1
    with client(address, make_key("bob")) as bob:
        assert send(bob, content).status_code == 202
    assert len(media.names()) == len(rows(Media)) == 2, "another owner's bytes are his own"
    assert {media.read(key) for key in media.names()} == {content}


def test_the_same_bytes_at_the_same_moment_are_stored_once(http: httpx2.Client, media: Bucket) -> None:
    content, answers = secrets.token_bytes(MiB), []
    threads = [
        threading.Thread(target=lambda: answers.append(send(http, content).status_code)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 6
    assert len(rows(Analysis)) == 6
    assert len(media.names()) == len(rows(Media)) == 1


def test_a_hostile_name_is_only_a_name(http: httpx2.Client, media: Bucket) -> None:
    response = send(http, b"x", "../../\u202eetc/pass\u202ewd.mp4")
    assert response.json()["media"]["filename"] == "passwd.mp4"
    (stored,) = media.names()
    assert "passwd" not in stored


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"interval_seconds": "0.5"}, "invalid_option"),
        ({"interval_seconds": "6"}, "invalid_option"),
        ({"frames_per_interval": "0"}, "invalid_option"),
        ({"metadata": "[1]"}, "invalid_metadata"),
        ({"metadata": '{"a": "' + "x" * FIELD_BOUNDS["metadata"] + '"}'}, "field_too_large"),
        ({"webhook": "https://example.org"}, "unknown_field"),
    ],
)
def test_a_wrong_field_keeps_nothing(
    http: httpx2.Client, media: Bucket, fields: dict[str, str], code: str
) -> None:
    response = send(http, secrets.token_bytes(9 * MiB), **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert media.names() == set()
    assert rows(Analysis) == rows(Media) == []


def test_an_unknown_field_after_the_file_keeps_nothing(http: httpx2.Client, media: Bucket) -> None:
    body = form(part("file", secrets.token_bytes(9 * MiB), filename="a"), part("surprise", "x"))
    response = http.post(URL, content=body, headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (422, "unknown_field")
    assert response.json()["field"] == "surprise"
    assert media.names() == set()


def test_an_empty_file_is_refused(http: httpx2.Client, media: Bucket) -> None:
    response = send(http, b"")
    assert (response.status_code, response.json()["code"]) == (422, "empty_file")
    assert media.names() == set()


def test_a_file_below_the_least_size_is_refused(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MIN_UPLOAD_BYTES=1000)
    response = send(http, b"x" * 999)
    assert (response.status_code, response.json()["code"]) == (422, "file_too_small")
    assert response.json()["limit_bytes"] == 1000
    assert media.names() == set()
    assert send(http, b"x" * 1000).status_code == 202


def test_the_size_limit_holds_to_the_byte(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=9 * MiB)
    response = send(http, bytes(9 * MiB + 1))
    assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
    assert response.json()["limit_bytes"] == 9 * MiB
    assert media.names() == set()
    assert send(http, bytes(9 * MiB)).status_code == 202


def test_a_long_body_is_refused_by_its_announced_length(
    address: tuple[str, int], key: str, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=1000)
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}", f"Content-Type: {CONTENT_TYPE}", "Content-Length: 999999999999"
        )
        status, headers, problem = raw.answer()
    assert (status, problem["code"]) == (413, "file_too_large")
    assert headers["connection"] == "close"
    assert media.names() == set()


def test_a_body_of_unknown_length_is_refused_while_it_streams(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=9 * MiB)

    def endless() -> Iterator[bytes]:
        yield part("file", b"", filename="a")[:-2]
        for _ in range(40):
            yield bytes(MiB)

    response = http.post(URL, content=endless(), headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (413, "file_too_large")
    assert media.names() == set()


def test_an_endless_epilogue_is_refused(
    http: httpx2.Client, media: Bucket, set_settings: Callable[..., None]
) -> None:
    set_settings(LIMITS__MAX_UPLOAD_BYTES=1000)

    def chatty() -> Iterator[bytes]:
        yield form(part("file", b"small", filename="a"))
        for _ in range(FORM_OVERHEAD // 1000 + 2):
            yield b"x" * 1000

    response = http.post(URL, content=chatty(), headers={"Content-Type": CONTENT_TYPE})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert media.names() == set()


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"Content-Type": CONTENT_TYPE}, b"no form at all", 400, "malformed_upload"),
        ({"Content-Type": CONTENT_TYPE}, b"", 400, "malformed_upload"),
        (
            {"Content-Type": CONTENT_TYPE},
            form(part("file", b"abc", filename="a"))[:-6],
            400,
            "malformed_upload",
        ),
        ({"Content-Type": "multipart/form-data"}, form(), 400, "malformed_upload"),
        ({"Content-Type": CONTENT_TYPE}, form(), 422, "missing_file"),
        ({"Content-Type": CONTENT_TYPE}, form(part("file", b"abc")), 422, "not_a_file"),
        ({"Content-Type": "video/mp4"}, b"abc", 415, "unsupported_media_type"),
        ({}, b"abc", 415, "unsupported_media_type"),
        ({"Content-Type": CONTENT_TYPE, "Content-Encoding": "gzip"}, b"abc", 415, "unsupported_media_type"),
    ],
)
def test_what_is_no_form_is_refused(
    http: httpx2.Client, media: Bucket, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    response = http.post(URL, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert media.names() == set()


def begin(raw: Raw, key: str, *headers: str) -> None:
    """The head of an upload and the start of its file, 9 MiB: enough for a part to be in the storage."""
    raw.head(f"Authorization: Bearer {key}", f"Content-Type: {CONTENT_TYPE}", *headers)
    raw.send(part("file", bytes(9 * MiB), filename="a")[:-2])


def test_a_content_length_that_is_too_short_is_malformed(
    address: tuple[str, int], key: str, media: Bucket
) -> None:
    body = form(part("file", b"abc" * 100, filename="a"))
    with Raw(address) as raw:
        raw.head(
            f"Authorization: Bearer {key}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body) - 9}",
        )
        raw.send(body)
        status, _, problem = raw.answer()
    assert (status, problem["code"]) == (400, "malformed_upload")
    assert media.names() == set()


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
