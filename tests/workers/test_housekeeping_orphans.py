"""Clearing the bucket: only what nobody names, only what is old, only in a bucket of ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text

from core import analyses, audit, db
from core.config import settings
from core.errors import StorageError
from core.keys import Caller
from core.models import AuditEntry, Upload
from core.retention import bucket
from core.storage import storage
from tests.core.eraser import away, ended, extracted, file_of, objects, picture, put, submitted
from tests.core.factories import create_caller
from workers import orphans

NEVER = threading.Event()
PART = b"x" * 5 * 1024 * 1024


@pytest.fixture
def caller(clean_database: str, bucket: str) -> Iterator[Caller]:
    """The owner of everything, beside an empty database and an empty bucket."""
    assert clean_database
    assert bucket
    storage().delete_prefix("")
    with db.transaction() as session:
        made = create_caller(session, "newsroom")
    yield made
    storage().delete_prefix("")


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if everything in the bucket were old."""
    monkeypatch.setattr(orphans, "cutoff", lambda: datetime.now(UTC) + timedelta(minutes=1))


def whole_pass(sweep: orphans.OrphanSweep) -> int:
    """To the end of the bucket; how many calls it took."""
    calls = 1
    while sweep(NEVER):
        calls += 1
    return calls


def logged() -> list[dict[str, Any]]:
    query = select(AuditEntry).where(AuditEntry.action == audit.Action.ORPHANS_ERASED.value)
    with db.read() as session:
        return [row.detail for row in session.scalars(query)]


@pytest.mark.usefixtures("aged")
def test_orphans_go_and_all_that_is_named_stays(caller: Caller) -> None:
    identity = submitted(caller)
    extracted(identity)
    wanted = {*objects(""), bucket.MARKER, put("backup/elsewhere")}
    put("media/nobodys", b"12345")
    put(f"{analyses.FOLDERS}{uuid4()}/work-1-x/crops-0.npy", b"1234567")
    assert whole_pass(orphans.OrphanSweep()) == 1
    assert set(objects("")) == wanted
    (detail,) = logged()
    assert (detail["objects"], detail["bytes"]) == (2, 12)
    whole_pass(orphans.OrphanSweep())
    assert len(logged()) == 1, "nothing to tell of"


def test_what_is_young_may_be_on_its_way_into_a_row(caller: Caller) -> None:
    assert caller
    put("media/just-uploaded")
    whole_pass(orphans.OrphanSweep())
    assert "media/just-uploaded" in objects("")
    age = datetime.now(UTC) - orphans.cutoff()
    assert age == pytest.approx(settings().retention.orphans, abs=timedelta(seconds=1))


@pytest.mark.usefixtures("aged")
def test_it_goes_on_where_it_stood_and_begins_anew_at_the_end(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "BATCH", 3)
    identity = submitted(caller)
    picture(identity)
    kept = set(objects("")) | {bucket.MARKER}
    for n in range(7):
        put(f"media/nobodys-{n}")
        put(f"{analyses.folder(uuid4())}x")
    sweep = orphans.OrphanSweep()
    assert whole_pass(sweep) == 6  # 16 objects, and a last look that finds fewer than three
    assert set(objects("")) == kept
    put("media/later")
    assert whole_pass(sweep) == 2
    assert set(objects("")) == kept


@pytest.mark.usefixtures("aged")
def test_killed_in_the_middle_the_next_begins_again(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caller
    monkeypatch.setattr(orphans, "BATCH", 2)
    for n in range(4):
        put(f"media/nobodys-{n}")
    assert orphans.OrphanSweep()(NEVER)
    assert whole_pass(orphans.OrphanSweep()) >= 1
    assert objects("") == [bucket.MARKER]


@pytest.mark.usefixtures("aged")
def test_a_database_that_knows_nothing_of_the_bucket_deletes_nothing(caller: Caller) -> None:
    file = file_of(ended(submitted(caller), "failed")).object_key
    whole_pass(orphans.OrphanSweep())
    with db.transaction() as session:  # as if it were another database
        session.execute(text("TRUNCATE audit_entries, analyses, media CASCADE"))
    assert whole_pass(orphans.OrphanSweep()) == 1
    orphans.drop_loose_parts(NEVER)
    assert set(objects("")) == {file, bucket.MARKER}


@pytest.mark.usefixtures("aged")
def test_an_outage_is_an_outage_and_it_goes_on_afterwards(caller: Caller) -> None:
    assert caller
    put("media/nobodys")
    sweep = orphans.OrphanSweep()
    with away(), pytest.raises(StorageError):
        sweep(NEVER)
    whole_pass(sweep)
    assert objects("") == [bucket.MARKER]


def test_asked_to_stop_it_looks_at_nothing(caller: Caller) -> None:
    assert caller
    stopped = threading.Event()
    stopped.set()
    assert not orphans.OrphanSweep()(stopped)
    assert not orphans.drop_loose_parts(stopped)
    assert objects("") == [], "the bucket has not even been claimed"


def begun(key: str) -> str:
    """A multipart upload that nobody completes."""
    client, name = storage()._client, settings().s3.bucket
    made: str = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    client.upload_part(Bucket=name, Key=key, UploadId=made, PartNumber=1, Body=PART)
    return made


def unfinished() -> set[str]:
    return {found.key for found in storage().stale_multipart_uploads(timedelta(minutes=-5))}


def test_parts_that_nobody_will_join_are_dropped_once_they_are_old(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, loose, strange = f"media/{uuid4()}", f"media/{uuid4()}", f"backup/{uuid4()}"
    ids = {key: begun(key) for key in (named, loose, strange)}
    with db.transaction() as session:
        session.add(
            Upload(
                owner=caller.owner,
                status="open",
                object_key=named,
                multipart_id=ids[named],
                size_bytes=1,
                part_bytes=1,
                expires_at=func.now(),
            )
        )
    assert not orphans.drop_loose_parts(NEVER)
    assert unfinished() >= {named, loose, strange}, "somebody may be sending"
    monkeypatch.setattr(orphans, "cutoff", lambda: datetime.now(UTC) + timedelta(minutes=1))
    orphans.drop_loose_parts(NEVER)
    assert loose not in unfinished()
    assert unfinished() >= {named, strange}
    for key in (named, strange):
        storage().abort_parts(key, ids[key])
