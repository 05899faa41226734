"""Which objects nobody names, and whose bucket it is to clear up in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from core import analyses, audit, db, retention
from core.errors import StorageError
from core.keys import Caller
from core.models import AuditEntry, Upload
from core.retention import bucket, orphans
from core.storage import storage
from tests.core.eraser import (
    away,
    ended,
    extracted,
    file_of,
    held,
    picture,
    put,
    scratch,
    submitted,
)


def unnamed(*keys: str) -> set[str]:
    with db.read() as session:
        return set(orphans.unnamed(session, keys))


def test_a_file_is_named_by_its_row(owner: Caller) -> None:
    file = file_of(submitted(owner)).object_key
    assert unnamed(file, "media/nobody") == {"media/nobody"}


def test_not_once_it_is_erased(owner: Caller) -> None:
    """A backstop: whatever became of the erasure, the object is nobody's."""
    identity = ended(submitted(owner, retention_hours=0))
    retention.erase_media_if_due(identity)
    assert unnamed(file_of(identity).object_key) == {file_of(identity).object_key}


@pytest.mark.parametrize(
    ("status", "named"), [("open", True), ("completed", True), ("used", False), ("aborted", False)]
)
def test_an_upload_names_its_object_until_it_is_used(owner: Caller, status: str, named: bool) -> None:
    key = f"media/{uuid4()}"
    with db.transaction() as session:
        session.add(
            Upload(
                owner=owner.owner,
                status=status,
                object_key=key,
                size_bytes=1,
                part_bytes=1,
                expires_at=func.now(),
            )
        )
    assert (unnamed(key) == set()) is named


def test_all_of_a_living_analysis_is_wanted(owner: Caller) -> None:
    identity = submitted(owner)
    keys = scratch(identity), picture(identity), scratch(identity, "work-2-worker-b")
    assert unnamed(*keys) == set()


def test_of_an_ended_one_the_pictures_of_the_extraction_that_counts(owner: Caller) -> None:
    """A fenced attempt, stopped for longer than the analysis lived, may have written afterwards."""
    identity = ended(submitted(owner))
    folder = analyses.folder(identity)
    wanted = f"{folder}pictures-1-worker-a/track-0.jpg"
    late = {
        f"{folder}pictures-1-worker-ab/x",
        f"{folder}work-1-worker-a/x",
        f"{folder}x",
        f"{folder}pictures-2-b/x",
    }
    assert unnamed(wanted, *late) == late


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_of_one_that_has_no_report_nothing(owner: Caller, end: str) -> None:
    identity = submitted(owner)
    keys = {scratch(identity), picture(identity)}
    ended(identity, end)
    assert unnamed(*keys) == keys


def test_of_one_whose_pictures_are_erased_nothing(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    retention.erase_media_if_due(identity)
    late = picture(identity)
    assert unnamed(late) == {late}


def test_of_a_held_one_everything(owner: Caller) -> None:
    identity = submitted(owner)
    keys = scratch(identity), picture(identity)
    ended(identity, "canceled")
    held(owner, identity)
    assert unnamed(*keys) == set()


def test_of_a_deleted_one_nothing(owner: Caller) -> None:
    identity = submitted(owner)
    extracted(identity)
    with db.transaction() as session:
        retention.condemn_analysis(session, identity, actor=owner.key_id)
    late = f"{analyses.folder(identity)}work-1-late/x"
    assert unnamed(late) == {late}


def test_what_is_not_named_as_we_name_things_is_not_ours(owner: Caller) -> None:
    assert owner
    strange = [
        "installation", "x", "analyses/", "analyses/notes.txt", "analyses/1234/x", "backup/media/x",
        f"analyses/{uuid4().hex}/x", f"analyses/{{{uuid4()}}}/x", f"analyses/{str(uuid4()).upper()}/x",
    ]  # fmt: skip
    assert unnamed(*strange) == set()


@pytest.fixture
def unclaimed(owner: Caller) -> Iterator[None]:
    assert owner
    storage().delete(bucket.MARKER)
    yield
    storage().delete(bucket.MARKER)


def claims() -> list[str]:
    query = select(AuditEntry.subject).where(AuditEntry.action == audit.Action.STORAGE_CLAIMED.value)
    with db.read() as session:
        return list(session.scalars(query))


def forget() -> None:
    """As if the database were another one."""
    with db.transaction() as session:
        session.execute(text("TRUNCATE audit_entries"))


@pytest.mark.usefixtures("unclaimed")
def test_a_bucket_is_claimed_once_and_known_again() -> None:
    assert bucket.is_ours()
    assert bucket.is_ours()
    (identity,) = claims()
    assert storage().read(bucket.MARKER).decode() == identity


@pytest.mark.usefixtures("unclaimed")
def test_another_database_may_not_clear_up_in_it() -> None:
    assert bucket.is_ours()
    forget()
    assert not bucket.is_ours(), "a fresh database"
    assert claims() == []
    put("elsewhere")
    marker = storage().read(bucket.MARKER)
    storage().delete(bucket.MARKER)
    assert bucket.is_ours()
    put(bucket.MARKER, marker)
    assert not bucket.is_ours(), "one with an id of its own"


@pytest.mark.usefixtures("unclaimed")
def test_a_damaged_marker_is_nobodys() -> None:
    put(bucket.MARKER, b"\xff\x00")
    assert not bucket.is_ours()


@pytest.mark.usefixtures("unclaimed")
def test_killed_before_the_marker_it_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable() -> object:
        if claims():
            raise KeyboardInterrupt
        return storage()

    monkeypatch.setattr(bucket, "storage", unable)
    with pytest.raises(KeyboardInterrupt):
        bucket.is_ours()
    monkeypatch.undo()
    (identity,) = claims()
    assert bucket.is_ours()
    assert claims() == [identity]
    assert storage().read(bucket.MARKER).decode() == identity


@pytest.mark.usefixtures("unclaimed")
def test_two_that_claim_at_once_have_one_id() -> None:
    ready = threading.Barrier(4)
    told: list[bool] = []

    def claim() -> None:
        ready.wait(30)
        told.append(bucket.is_ours())

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [True] * 4
    assert len(claims()) == 1
    assert bucket.is_ours()


@pytest.mark.usefixtures("unclaimed")
def test_of_a_storage_that_is_away_nothing_is_known() -> None:
    with away(), pytest.raises(StorageError):
        bucket.is_ours()
    assert claims() == []
