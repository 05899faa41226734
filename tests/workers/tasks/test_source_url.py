"""A submission by URL: fetched through the guard, stored once, and ended with a reason when it cannot be."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from core import analyses, db, steps
from core.config import settings
from core.domain import Options, Stage
from core.errors import Fenced, MediaError, StorageError
from core.keys import Caller
from core.models import Analysis, Media
from core.storage import storage
from tests.conftest import point_settings
from tests.core.factories import create_caller, expire_leases
from tests.workers.outbound.server import HOST, Seen, Server, answering, serving, speaking
from tests.workers.outbound.trap import Trap
from tests.workers.tasks.conftest import SAMPLES, hold, stages_of
from workers.base import run_step
from workers.heart import Hold
from workers.tasks.extract import extract_media
from workers.tasks.fetch import FINAL, fetch_media
from workers.workspace import private_folder

ROOT = SAMPLES.parent
CLIP = (SAMPLES / "pkg_face_photo_real_speech.mp4").read_bytes()


@pytest.fixture(autouse=True)
def servers(clean_database: str, bucket: str) -> Iterator[None]:
    """Postgres and S3, both empty; the settings of the test are gone after it."""
    assert clean_database
    assert bucket
    before = dict(os.environ)
    storage().delete_prefix("")
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
    settings.cache_clear()


def allow(*servers: Server, **more: str) -> None:
    """Let the address and the ports of these servers be fetched from, and nothing else."""
    ports = ",".join(str(server.port) for server in servers)
    point_settings(
        DEEPDEFEND_SOURCE_URL__ALLOWED_NETWORKS=f'["{HOST}/32"]',
        DEEPDEFEND_SOURCE_URL__ALLOWED_PORTS=f"[80, 443, {ports}]" if ports else "[80, 443]",
        **more,
    )


def submit(url: str, caller: Caller | None = None) -> UUID:
    with db.transaction() as session:
        return analyses.submit(
            session,
            caller=caller or create_caller(session),
            source=analyses.RemoteFile(url=url),
            options=Options(),
        ).analysis.id


def seen(analysis_id: UUID) -> Analysis:
    with db.read() as session:
        return analyses.load(session, analysis_id)


def objects() -> list[str]:
    return sorted(storage().keys("media/"))


def media_rows() -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(Media)) or 0


def run(analysis_id: UUID, act: Callable[[Hold], None] = extract_media) -> Analysis:
    run_step(Stage.EXTRACT, str(analysis_id), 0, act)
    return seen(analysis_id)


def test_the_file_is_fetched_stored_and_extracted() -> None:
    with answering(CLIP, headers={"Content-Type": "video/mp4"}) as server:
        allow(server)
        identity = submit(f"{server.url}films/Interview%20%231.mp4")
        row = run(identity)
    assert row.error is None
    assert row.file.sha256 == hashlib.sha256(CLIP).hexdigest()
    assert row.file.size_bytes == len(CLIP)
    assert row.filename == "Interview #1.mp4"
    assert row.file.facts is not None
    assert objects() == [row.file.object_key]
    assert storage().read(row.file.object_key) == CLIP
    assert {stage: status for stage, _, status, _ in stages_of(identity)}["extract"] == "done"
    assert len(server.requests) == 1


def test_the_version_grows_when_the_file_is_there() -> None:
    with answering(CLIP) as server:
        allow(server)
        identity = submit(server.url)
        held = hold(identity, Stage.EXTRACT)
        before = seen(identity).version
        fetch_into(held, server.url)
    assert seen(identity).version > before
    assert seen(identity).file.facts is None


def fetch_into(held: Hold, url: str, folder: Path | None = None) -> None:
    """`fetch_media` into a folder that is gone after it."""
    if folder is not None:
        fetch_media(held, url, folder / "source")
        return
    with private_folder() as private:
        fetch_media(held, url, private / "source")


def test_what_was_fetched_is_not_fetched_again() -> None:
    """The first attempt dies in the decoder; the second one takes the file from the storage."""

    def die(held: Hold) -> None:
        fetch_into(held, server.url)
        raise StorageError("and then the storage went away")

    with answering(CLIP) as server:
        allow(server)
        identity = submit(server.url)
        assert run(identity, die).status == "processing"
        assert [stage[2] for stage in stages_of(identity)] == ["pending"]
        row = run(identity)
    assert row.file.facts is not None
    assert len(server.requests) == 1
    assert objects() == [row.file.object_key]


def test_the_same_bytes_are_stored_once_per_owner() -> None:
    with db.transaction() as session:
        one, other = create_caller(session), create_caller(session, owner="another")
    with answering(CLIP) as server:
        allow(server)
        rows = [run(submit(f"{server.url}{n}.mp4", caller)) for n, caller in enumerate([one, one, other])]
    assert rows[0].media_id == rows[1].media_id != rows[2].media_id
    assert [row.filename for row in rows] == ["0.mp4", "1.mp4", "2.mp4"]
    assert objects() == sorted({row.file.object_key for row in rows})
    assert len(objects()) == 2


def test_bytes_that_were_sent_before_are_not_kept_twice() -> None:
    sha256 = hashlib.sha256(CLIP).hexdigest()
    upload = storage().open_upload("media/sent")
    upload.write(CLIP)
    upload.complete()
    sent = analyses.StoredUpload(sha256=sha256, size_bytes=len(CLIP), object_key="media/sent")
    with db.transaction() as session:
        caller = create_caller(session)
        analyses.submit(session, caller=caller, source=sent, options=Options())
    with answering(CLIP) as server:
        allow(server)
        row = run(submit(server.url, caller))
    assert row.file.object_key == "media/sent"
    assert objects() == ["media/sent"]


def broken(caller: socket.socket) -> None:
    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


REFUSALS: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"body": b"", "status": 404}, {}, "source_refused"),
    ({"body": b"", "status": 403}, {}, "source_refused"),
    ({"body": b"", "status": 302, "headers": {"Location": "/"}}, {}, "source_refused"),
    ({"body": b"", "status": 302, "headers": {"Location": "http://127.0.0.1/"}}, {}, "source_unsafe_url"),
    ({"body": b"", "status": 302, "headers": {"Location": "file:///etc/passwd"}}, {}, "source_unsafe_url"),
    ({"body": b"<html>", "headers": {"Content-Type": "text/html"}}, {}, "source_wrong_type"),
    ({"body": b"bomb", "headers": {"Content-Encoding": "gzip"}}, {}, "source_wrong_type"),
    ({"body": b"x" * 1001}, {"DEEPDEFEND_LIMITS__MAX_UPLOAD_BYTES": "1000"}, "source_too_large"),
    ({"body": b""}, {}, "source_empty"),
    ({"body": b"x" * 9}, {"DEEPDEFEND_LIMITS__MIN_UPLOAD_BYTES": "10"}, "source_too_small"),
    ({"body": CLIP}, {"DEEPDEFEND_SOURCE_URL__ENABLED": "false"}, "source_url_disabled"),
    ({"body": b"this is no film\n" * 50}, {}, "unsupported_format"),
]


@pytest.mark.parametrize(("answer", "environment", "code"), REFUSALS, ids=[case[2] for case in REFUSALS])
def test_what_cannot_be_had_fails_with_its_reason(
    answer: dict[str, Any], environment: dict[str, str], code: str
) -> None:
    with answering(**answer) as server:
        allow(server, **environment)
        row = run(submit(server.url))
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == code
    assert HOST not in str(row.error)
    assert len(objects()) == (1 if code == "unsupported_format" else 0)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://[::1]:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://localhost:{}/",
        "",
        "x:",
    ],
)
def test_an_unsafe_url_reaches_nobody(url: str) -> None:
    """Also one that got past the door, say before the settings were changed."""
    with Trap() as trap:
        point_settings(DEEPDEFEND_SOURCE_URL__ALLOWED_PORTS=f"[{trap.port}]")
        row = run(submit(url.format(trap.port)))
        assert trap.count == 0
    assert (row.status, row.error and row.error["code"]) == ("failed", "source_unsafe_url")


def stall(caller: socket.socket) -> None:
    while caller.recv(65536):
        pass


TROUBLES: list[tuple[Callable[[], Any], str]] = [
    (lambda: answering(b"", status=503), "source_unreachable"),
    (lambda: speaking(broken), "source_unreachable"),
    (lambda: speaking(lambda _caller: None), "source_unreachable"),
    (lambda: speaking(stall), "source_timed_out"),
]


@pytest.mark.parametrize(("serve", "code"), TROUBLES)
def test_a_server_in_trouble_is_asked_again_and_then_given_up(serve: Callable[[], Any], code: str) -> None:
    last = settings().steps.max_attempts
    with serve() as server:
        allow(server, DEEPDEFEND_SOURCE_URL__IDLE_TIMEOUT="PT0.3S")
        identity = submit(server.url)
        for attempt in range(1, last + 1):
            row = run(identity)
            (step,) = stages_of(identity)
            if attempt < last:
                assert (row.status, step[2], step[3]) == ("processing", "pending", code)
    assert (row.status, step[2], step[3]) == ("failed", "failed", code)
    assert row.error is not None
    assert row.error["code"] == code
    assert HOST not in str(row.error)
    assert objects() == []


def test_a_name_that_does_not_exist_is_an_outage_at_first() -> None:
    identity = submit("http://no-such-name.invalid/clip.mp4")
    assert run(identity).status == "processing"
    assert stages_of(identity)[0][2:] == ("pending", "source_unreachable")


def test_a_server_that_comes_back_is_fetched_from() -> None:
    answers = iter([503, 200])

    def answer(handler: Any, _: Seen) -> None:
        status = next(answers)
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(CLIP)))
        handler.end_headers()
        handler.wfile.write(CLIP)

    with serving(answer) as server:
        allow(server)
        identity = submit(server.url)
        assert run(identity).status == "processing"
        assert run(identity).file.facts is not None


def cancel(identity: UUID) -> None:
    with db.transaction() as session:
        analyses.cancel(session, seen(identity).owner, identity)


def test_a_cancellation_ends_the_fetch() -> None:
    """The server is silent; the checkpoint notices what the heart has seen."""
    with speaking(stall) as server:
        allow(server)
        identity = submit(server.url)
        held = hold(identity, Stage.EXTRACT)
        cancel(identity)
        held.lose()
        with pytest.raises(Fenced):
            fetch_into(held, server.url)
    assert objects() == []
    assert seen(identity).media_id is None


def test_a_fenced_worker_leaves_nothing_behind() -> None:
    """Canceled while the last bytes were stored, before the heart could know."""
    with answering(CLIP) as server:
        allow(server)
        identity = submit(server.url)
        held = hold(identity, Stage.EXTRACT)
        cancel(identity)
        with pytest.raises(Fenced):
            fetch_into(held, server.url)
    assert objects() == []
    assert media_rows() == 0
    assert (seen(identity).status, seen(identity).media_id) == ("canceled", None)


def test_of_two_workers_only_the_holder_attaches() -> None:
    with answering(CLIP) as server:
        allow(server)
        identity = submit(server.url)
        slow = hold(identity, Stage.EXTRACT)
        with db.transaction() as session:
            expire_leases(session)
            steps.requeue_expired(session, settings().steps)
        quick = hold(identity, Stage.EXTRACT)
        with pytest.raises(Fenced):
            fetch_into(slow, server.url)
        fetch_into(quick, server.url)
    assert objects() == [seen(identity).file.object_key]


def test_a_file_half_stored_is_given_back(tmp_path: Path) -> None:
    """Canceled between two pieces of the upload: no object, and no parts of one."""
    large = os.urandom(9 * 1024 * 1024)
    with answering(large) as server:
        allow(server)
        identity = submit(server.url)
        held = CancelWhenFetched(hold(identity, Stage.EXTRACT).claim, tmp_path / "source", len(large))
        with pytest.raises(Fenced):
            fetch_into(held, server.url, tmp_path)
    assert held.checks_after > 1
    assert objects() == []
    assert storage().stale_multipart_uploads(timedelta()) == []


class CancelWhenFetched(Hold):
    """Loses its lease at the second checkpoint after the file is there whole."""

    def __init__(self, claim: steps.Claim, file: Path, size: int) -> None:
        super().__init__(claim)
        self._file, self._size = file, size
        self.checks_after = 0

    def check(self) -> None:
        if self._file.exists() and self._file.stat().st_size == self._size:
            self.checks_after += 1
        if self.checks_after > 9:  # the first 8 MiB are a part that has been sent
            self.lose()
        super().check()


def test_a_storage_that_is_away_is_an_outage() -> None:
    with answering(CLIP) as server:
        allow(server)
        identity = submit(server.url)
        point_settings(DEEPDEFEND_S3__ENDPOINT_URL="http://127.0.0.1:1")
        storage.cache_clear()
        try:
            row = run(identity)
        finally:
            storage.cache_clear()
    assert row.status == "processing"
    assert stages_of(identity)[0][2:] == ("pending", "storage_unavailable")
    assert media_rows() == 0


def test_the_private_folder_is_empty_after_a_failure(tmp_path: Path) -> None:
    with answering(b"<html>", headers={"Content-Type": "text/html"}) as server:
        allow(server, DEEPDEFEND_TEMP_DIR=str(tmp_path))
        run(submit(server.url))
    assert list(tmp_path.iterdir()) == []


def test_every_code_is_documented() -> None:
    told = (ROOT / "docs" / "urls.md").read_text()
    ends = {"source_unreachable", "source_timed_out"} | {code for _, _, code in REFUSALS if "source" in code}
    assert [code for code in ends | set(FINAL.values()) if f"`{code}`" not in told] == []


def test_a_media_error_of_the_fetch_is_final(tmp_path: Path) -> None:
    with answering(b"", status=404) as server:
        allow(server)
        held = hold(submit(server.url), Stage.EXTRACT)
        with pytest.raises(MediaError, match="404"):
            fetch_into(held, server.url, tmp_path)
