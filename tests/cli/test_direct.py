"""Files in parts and addresses, from the command line's side, against the real API and storage."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console
from sqlalchemy import select, text
from typer.testing import CliRunner

from cli import direct
from cli.analyze import Run, is_address, named
from cli.client import BadFile, Client, NotOurs, Refused
from cli.main import app
from cli.progress import display
from core import db, keys, uploads
from core.config import MiB, settings
from core.domain import Lane, Options, Terms
from core.models import Analysis, Upload
from core.storage import storage
from tests.api.server import serving
from tests.cli.conftest import Answer, ScriptedApi
from tests.conftest import point_settings

PART = 5 * MiB


@pytest.fixture(scope="module")
def url(database: str, bucket: str) -> Iterator[str]:
    """A running API."""
    assert database
    assert bucket
    with serving() as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def client(clean_database: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a fresh owner; parts are of 5 MiB, pauses take no time."""
    assert clean_database
    monkeypatch.setenv("DEEPDEFEND_UPLOADS__PART_BYTES", str(PART))
    point_settings()
    with db.transaction() as session:
        key = keys.create(session, name="client", owner="client")[1]
    storage().delete_prefix("media/")
    with Client(url, key, sleep=lambda _: None) as opened:
        yield opened
    with db.transaction() as session:
        session.execute(text("UPDATE uploads SET expires_at = now() WHERE status <> 'used'"))
    uploads.sweep()
    monkeypatch.undo()
    point_settings()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(2 * PART + 100))
    return path


def rows() -> list[Upload]:
    with db.read() as session:
        return list(session.scalars(select(Upload).order_by(Upload.created_at)))


class Wire:
    """Counts what is PUT to the storage, and lets some of it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        self.fail: Callable[[int], BaseException | None] = lambda _: None
        real = httpx2.Client.put

        def put(client: httpx2.Client, address: str, **named: Any) -> httpx2.Response:
            self.sent += 1
            if trouble := self.fail(self.sent):
                raise trouble
            return real(client, address, **named)

        monkeypatch.setattr(httpx2.Client, "put", put)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def test_a_file_goes_in_parts_and_is_analysed(client: Client, clip: Path, wire: Wire) -> None:
    seen: list[tuple[int, int]] = []
    found = direct.submit(
        client,
        clip,
        Options(interval_seconds=3),
        lambda sent, total: seen.append((sent, total)),
        terms=Terms(lane=Lane.BATCH, retention_hours=0),
    )
    size = clip.stat().st_size
    assert found["media"] == {
        "sha256": hashlib.sha256(clip.read_bytes()).hexdigest(),
        "size_bytes": size,
        "filename": "clip.mp4",
        "facts": None,
    }
    assert (found["options"]["interval_seconds"], found["lane"]) == (3.0, "batch")
    assert found["retention"]["hours"] == 0
    assert seen == [(PART, size), (2 * PART, size), (size, size)]
    assert wire.sent == 3


def test_after_an_interruption_only_the_rest_is_sent(client: Client, clip: Path, wire: Wire) -> None:
    wire.fail = lambda n: KeyboardInterrupt() if n == 2 else None
    with pytest.raises(KeyboardInterrupt):
        direct.submit(client, clip)
    wire.fail, wire.sent = lambda _: None, 0
    assert direct.submit(client, clip)["status"] == "queued"
    assert wire.sent == 2
    assert len(rows()) == 1


def test_lost_connections_are_gone_over_again(client: Client, clip: Path, wire: Wire) -> None:
    wire.fail = lambda n: httpx2.WriteError("broken pipe") if n in {1, 3} else None
    assert direct.submit(client, clip)["status"] == "queued"
    assert wire.sent == 5


def test_dead_addresses_are_replaced(client: Client, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = Client.post, []

    def stale(self: Client, path: str, *values: Any) -> httpx2.Response:
        answer = real(self, path, *values)
        if path == "v1/uploads":
            asked.append(path)
            old = answer.text.replace("X-Amz-Signature=", "X-Amz-Signature=0")
            return httpx2.Response(answer.status_code, text=old)
        return answer

    monkeypatch.setattr(Client, "post", stale)
    assert direct.submit(client, clip)["status"] == "queued"
    assert asked == ["v1/uploads"]


def test_a_storage_that_takes_nothing_is_told_of(client: Client, clip: Path, wire: Wire) -> None:
    wire.fail = lambda _: httpx2.ConnectError("refused")
    with pytest.raises(direct.NoStorage, match="run the command again"):
        direct.submit(client, clip)
    assert wire.sent == direct.FRUITLESS
    wire.fail = lambda _: None
    assert direct.submit(client, clip)["status"] == "queued"


def test_the_same_file_again_is_another_analysis(client: Client, clip: Path, wire: Wire) -> None:
    ids = {direct.submit(client, clip)["id"] for _ in range(3)}
    assert len(ids) == 3
    assert [row.status for row in rows()] == ["used"] * 3
    assert wire.sent == 9
    assert len(list(storage().keys("media/"))) == 1


def test_one_that_another_process_has_used_meanwhile_is_begun_anew(
    client: Client, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client.submit_named

    def late(self: Client, *values: Any, **named: Any) -> Any:
        monkeypatch.setattr(Client, "submit_named", real)
        real(self, *values, **named)
        return real(self, *values, **named)

    monkeypatch.setattr(Client, "submit_named", late)
    assert direct.submit(client, clip)["status"] == "queued"
    assert [row.status for row in rows()] == ["used", "used"]
    with db.read() as session:
        assert len(session.scalars(select(Analysis.id)).all()) == 2


def test_a_completed_one_is_not_sent_again(client: Client, clip: Path, wire: Wire) -> None:
    with pytest.raises(Refused):
        direct.submit(client, clip, terms=Terms(webhook_url="https://10.0.0.1/"))
    assert [row.status for row in rows()] == ["completed"]
    wire.sent = 0
    assert direct.submit(client, clip)["status"] == "queued"
    assert wire.sent == 0


def test_a_file_that_changes_is_noticed(client: Client, clip: Path) -> None:
    def change(_sent: int, _total: int) -> None:
        clip.write_bytes(b"\0" * clip.stat().st_size)

    with pytest.raises(Refused, match="checksum_mismatch"):
        direct.submit(client, clip, on_upload=change)
    with pytest.raises(BadFile, match="changed"):
        direct.submit(client, clip, on_upload=lambda _sent, _total: os.truncate(clip, 10))


def test_what_is_no_file_is_not_begun(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    cases = {tmp_path: "Is a directory", tmp_path / "none": "No such", tmp_path / "empty": "empty"}
    for path, why in cases.items():
        with pytest.raises(BadFile, match=why):
            direct.submit(client, path)
    assert rows() == []


def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(client: Client, clip: Path, wire: Wire) -> None:
    point_settings(DEEPDEFEND_LIMITS__MAX_UPLOAD_BYTES="1000")
    try:
        with pytest.raises(Refused, match="file_too_large"):
            direct.submit(client, clip)
    finally:
        del os.environ["DEEPDEFEND_LIMITS__MAX_UPLOAD_BYTES"]
        settings.cache_clear()
    assert wire.sent == 0


def test_an_address_is_submitted_as_one(client: Client) -> None:
    found = client.submit_named({"source_url": "https://example.org/a?b=c"}, None, Terms(deadline_seconds=60))
    assert (found["source_url"], found["media"]) == ("https://example.org/a?b=c", None)
    with pytest.raises(Refused, match="unsafe_url"):
        client.submit_named({"source_url": "http://127.0.0.1/"})


@pytest.mark.parametrize(
    ("file", "address", "name"),
    [
        ("clip.mp4", False, "clip.mp4"),
        (Path("https://example.org/a"), False, "a"),
        ("https://example.org/v/clip.mp4?token=secret", True, "clip.mp4"),
        ("HTTP://user:secret@example.org#secret", True, "example.org"),
        ("ftp://example.org/a", False, "a"),
        ("https:/clip", False, "clip"),
    ],
)
def test_addresses_and_files_are_told_apart(file: str | Path, name: str, *, address: bool) -> None:
    assert is_address(file) is address
    assert named(file) == name


def test_the_command_asks_for_all_of_it(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    api.answer("POST", "/v1/analyses", Answer(202, {"id": "a1", "status": "queued"}))
    options = ["--lane", "batch", "--deadline", "60", "--retention-hours", "0", "--interval-seconds", "3"]
    chosen = ["--url", api.url, "--key", "dd_key", "--no-wait", *options]
    done = CliRunner().invoke(app, ["analyze", "https://example.org/clip.mp4?t=1", *chosen])
    assert done.exit_code == 0, done.output
    (seen,) = api.requests
    assert json.loads(seen.body) == {
        "source_url": "https://example.org/clip.mp4?t=1",
        "lane": "batch",
        "deadline_seconds": 60,
        "retention_hours": 0,
        "interval_seconds": 3.0,
    }
    assert seen.headers["Idempotency-Key"]
    assert "t=1" not in done.output


@pytest.mark.parametrize(
    "wrong", [("--lane", "express"), ("--deadline", "9"), ("--retention-hours", "-1"), ("--deadline", "x")]
)
def test_a_wrong_choice_is_told_before_anything_is_sent(wrong: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["analyze", "https://example.org/clip.mp4", *wrong])
    assert done.exit_code == 2


def test_terms_travel_with_a_form_too(api: ScriptedApi, clip: Path) -> None:
    api.answer("POST", "/v1/analyses", Answer(202, {"id": "a1", "status": "queued"}))
    with Client(api.url, "dd_key") as client:
        client.submit(clip, terms=Terms(lane=Lane.INTERACTIVE, retention_hours=0))
    parts = {name: part.get_payload() for name, part in api.requests[0].parts().items()}
    assert {name: parts[name] for name in parts if name != "file"} == {
        "lane": "interactive",
        "retention_hours": "0",
    }


def test_what_answers_no_upload_is_not_ours(api: ScriptedApi, clip: Path) -> None:
    api.answer("POST", "/v1/uploads", Answer(200, {"id": "a"}))
    with Client(api.url, "dd_key") as client, pytest.raises(NotOurs):
        direct.submit(client, clip)


def test_a_run_sends_each_file_by_its_own_door(client: Client, clip: Path, wire: Wire) -> None:
    run = Run(client, display(Console(file=io.StringIO())), Console(file=io.StringIO()), direct=True)
    jobs, failed = run.submit([str(clip), "https://example.org/a.mp4", clip])
    assert failed == []
    assert [job.name for job in jobs] == ["clip.mp4", "a.mp4", "clip.mp4"]
    assert [job.envelope["source_url"] for job in jobs] == [None, "https://example.org/a.mp4", None]
    assert wire.sent == 6
