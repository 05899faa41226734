"""The client against the real API on real servers: the two must agree on the wire, not only in the docs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cli.client import Client, Refused
from core import analyses, db, keys
from core.config import MiB, settings
from core.domain import AnalysisStatus, Options
from core.errors import MediaError
from core.models import Interval
from tests.api.server import serving


@pytest.fixture(scope="module")
def url(database: str, bucket: str) -> Iterator[str]:
    """A running API."""
    assert database
    assert bucket
    with serving() as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def key(clean_database: str) -> str:
    """A key of a fresh owner."""
    assert clean_database
    with db.transaction() as session:
        return keys.create(session, name="client", owner="client")[1]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "Große clip.mp4"
    path.write_bytes(b"\0" * 100_000)
    return path


def end(identity: str, *, then: AnalysisStatus) -> None:
    """What the workers would do."""
    with db.transaction() as session:
        if then is AnalysisStatus.FAILED:
            analyses.fail(session, UUID(identity), MediaError("It cannot be decoded."))
        else:
            analyses.transition(session, UUID(identity), then)


def test_submitting_a_file_with_its_options(url: str, key: str, clip: Path) -> None:
    with Client(url, key) as client:
        found = client.submit(clip, Options(interval_seconds=3.0))
    assert (found["status"], found["media"]["size_bytes"]) == ("queued", 100_000)
    assert found["media"]["filename"] == "Große clip.mp4"
    assert found["options"] == Options(interval_seconds=3.0).model_dump(mode="json")


def test_waiting_sees_each_state_once_and_the_end(url: str, key: str, clip: Path) -> None:
    seen: list[str] = []
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:  # two polls without news (304) lie before it
            end(identity, then=AnalysisStatus.FAILED)

    with Client(url, key, sleep=pause) as client:
        identity = client.submit(clip)["id"]
        found = client.wait(identity, lambda envelope: seen.append(envelope["status"]))
    assert seen == ["queued", "failed"]
    assert len(pauses) == 3
    assert found["error"]["code"] == "undecodable_media"


def test_canceling_ends_it_and_what_has_failed_is_refused(url: str, key: str, clip: Path) -> None:
    with Client(url, key) as client:
        identity = client.submit(clip)["id"]
        canceled = client.cancel(identity)
        assert canceled["status"] == "canceled"
        assert client.cancel(identity) == client.wait(identity) == canceled
        failed = client.submit(clip)["id"]
        end(failed, then=AnalysisStatus.FAILED)
        with pytest.raises(Refused, match="conflict") as refused:
            client.cancel(failed)
    assert refused.value.status == 409


def test_intervals_come_over_several_pages(url: str, key: str, clip: Path) -> None:
    with Client(url, key) as client:
        identity = client.submit(clip)["id"]
        with db.transaction() as session:
            session.add_all(_silent(UUID(identity), index) for index in range(230))
        rows = list(client.intervals(identity))
    assert [row["index"] for row in rows] == list(range(230))
    assert rows[0]["video_reason"] == "no_face"


def _silent(identity: UUID, index: int) -> Interval:
    where: dict[str, Any] = {"start": index * 2.0, "end": index * 2.0 + 2}
    return Interval(
        analysis_id=identity, index=index, video_reason="no_face", audio_reason="silence", frames=[], **where
    )


def test_another_owners_analysis_is_not_there(url: str, key: str, clip: Path) -> None:
    with Client(url, key) as client:
        identity = client.submit(clip)["id"]
    with db.transaction() as session:
        other = keys.create(session, name="other", owner="other")[1]
    with Client(url, other) as client, pytest.raises(Refused, match="not_found"):
        client.wait(identity)


def test_a_refusal_arrives_though_the_upload_was_cut(url: str, clip: Path, clean_database: str) -> None:
    assert clean_database
    with clip.open("r+b") as file:
        file.truncate(40 * MiB)
    with Client(url, "dd_wrong") as client, pytest.raises(Refused) as refused:
        client.submit(clip)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")


def test_a_file_that_is_too_large_is_named_as_such(
    url: str, key: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPDEFEND_LIMITS__MAX_UPLOAD_BYTES", "50000")
    settings.cache_clear()
    with Client(url, key) as client, pytest.raises(Refused, match="file_too_large"):
        client.submit(clip)
    monkeypatch.undo()
    settings.cache_clear()
