"""Uploads in parts: a real database, a real storage, and processes that die between the two."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, uploads
from core.config import MiB, settings
from core.errors import (
    ChecksumMismatch,
    CompletionInProgress,
    Conflict,
    NotFound,
    StorageError,
    TooManyRequests,
)
from core.models import Upload
from core.storage import S3Storage, storage
from core.uploads import completion, rows
from tests.conftest import point_settings
from tests.core import parcels
from tests.core.parcels import OWNER, PART, begin, current, kept, send, sent

Call = Callable[[], Any]


@pytest.fixture(autouse=True)
def empty(clean_database: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No row and no object, parts of 5 MiB; afterwards no loose part that no row names."""
    assert clean_database
    assert bucket
    monkeypatch.setenv("DEEPDEFEND_UPLOADS__PART_BYTES", str(PART))
    point_settings()
    storage().delete_prefix("media/")
    yield
    with db.read() as session:
        named = uploads.named_parts(session)
    loose = storage().stale_multipart_uploads(timedelta(0))
    for item in loose:
        storage().abort_parts(item.key, item.multipart_id)
    monkeypatch.undo()
    point_settings()
    assert {item.multipart_id for item in loose} <= named, "parts were left that no row names"


def code(call: Call) -> str:
    with pytest.raises(Conflict) as caught:
        call()
    return caught.value.code


def finish(row: Upload) -> Upload:
    return uploads.complete(OWNER, row.id)


def take(row: Upload, owner: str = OWNER) -> Any:
    with db.transaction() as session:
        return uploads.take(session, owner, row.id)


@given(size=st.integers(1, 1 << 40), part=st.integers(PART, 1 << 33))
def test_parts_are_the_whole_and_all_but_the_last_are_equal(size: int, part: int) -> None:
    part = max(part, -(-size // 1000))  # a thousand do for a test
    sizes = uploads.part_sizes(size, part)
    assert list(sizes) == list(range(1, len(sizes) + 1))
    assert sum(sizes.values()) == size
    assert set(list(sizes.values())[:-1]) <= {part}
    assert 0 < sizes[len(sizes)] <= part


@pytest.mark.parametrize("size", [1, PART, 10_000 * PART, 10_000 * PART + 1, 10_000 * PART * 7 + 3])
def test_no_file_has_more_parts_than_s3_takes(size: int) -> None:
    part = rows.part_bytes_for(size)
    assert part >= PART
    assert part % MiB == 0
    assert -(-size // part) <= 10_000


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 2 * PART + 7])
def test_what_is_sent_in_parts_is_hashed_whole(size: int) -> None:
    row, data = sent(size)
    assert row.object_key.startswith("media/")
    done = finish(row)
    assert (done.status, done.sha256) == ("completed", hashlib.sha256(data).hexdigest())
    assert done.completed_at is not None
    assert storage().read(row.object_key) == data
    assert kept() == ([row.object_key], [])
    again = finish(row)
    assert (again.sha256, again.completed_at) == (done.sha256, done.completed_at)


def test_missing_parts_are_named_and_may_follow() -> None:
    data = os.urandom(3 * PART + 1)
    row = begin(len(data))
    send(row, data, [2])
    assert set(uploads.received(row)) == {2}
    with pytest.raises(Conflict) as caught:
        finish(row)
    assert (caught.value.code, caught.value.extra["missing"]) == ("parts_missing", [1, 3, 4])
    send(row, data, [1, 3, 4])
    assert finish(row).sha256 == hashlib.sha256(data).hexdigest()


def test_a_part_of_another_size_counts_as_missing() -> None:
    """Our URLs allow none, but the operator's own tools might send one."""
    row = begin(2 * PART)
    client, name = storage()._client, settings().s3.bucket
    for number, data in ((1, bytes(PART)), (2, b"short"), (3, b"beyond")):
        client.upload_part(
            Bucket=name, Key=row.object_key, UploadId=row.multipart_id, PartNumber=number, Body=data
        )
    assert set(uploads.received(row)) == {1}
    assert code(lambda: finish(row)) == "parts_missing"


def test_etags_that_are_given_are_compared() -> None:
    row, _ = sent(PART + 1)
    there = {n: part.etag for n, part in uploads.received(row).items()}
    wrong = [[(1, "nonsense")], [*there.items(), (3, "beyond")], [(1, there[2])], [(1, there[1]), (1, "x")]]
    for etags in wrong:
        with pytest.raises(Conflict) as caught:
            uploads.complete(OWNER, row.id, etags=etags)
        assert caught.value.code == "parts_changed"
    bare = [(n, etag.strip('"')) for n, etag in there.items()]
    assert uploads.complete(OWNER, row.id, etags=bare).status == "completed"


def test_a_wrong_announcement_drops_the_file() -> None:
    row, data = sent(sha256=hashlib.sha256(b"else").hexdigest())
    with pytest.raises(ChecksumMismatch) as caught:
        finish(row)
    assert caught.value.extra["sha256"] == hashlib.sha256(data).hexdigest()
    assert kept() == ([], [])
    assert code(lambda: finish(row)) == code(lambda: take(row)) == "upload_aborted"


def test_a_right_one_is_kept() -> None:
    data = os.urandom(1000)
    row = begin(1000, sha256=hashlib.sha256(data).hexdigest())
    send(row, data)
    assert finish(row).status == "completed"


def test_an_upload_is_taken_once() -> None:
    row, data = sent()
    assert code(lambda: take(row)) == "upload_not_completed"
    finish(row)
    with pytest.raises(NotFound):
        take(row, "bob")
    found = take(row)
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(data).hexdigest(), 1000)
    assert (found.object_key, found.filename) == (row.object_key, "clip.mp4")
    assert code(lambda: take(row)) == code(lambda: uploads.abort(OWNER, row.id)) == "upload_used"
    assert finish(row).status == "used"
    assert kept() == ([row.object_key], [])


def test_of_many_at_once_one_takes_it() -> None:
    row, _ = sent()
    finish(row)
    together = threading.Barrier(6)

    def race(_: int) -> str:
        together.wait()
        try:
            take(row)
        except Conflict as error:
            return error.code
        return "taken"

    with ThreadPoolExecutor(6) as pool:
        ends = sorted(pool.map(race, range(6)))
    assert ends == ["taken", *["upload_used"] * 5]


def test_a_submission_that_fails_gives_it_back() -> None:
    row, _ = sent()
    finish(row)
    session = Session(db.engine())
    uploads.take(session, OWNER, row.id)
    session.rollback()
    session.close()
    assert take(row).object_key == row.object_key


def test_what_is_not_mine_is_not_there() -> None:
    row, _ = sent(owner="bob")
    calls: list[Call] = [
        lambda: finish(row),
        lambda: uploads.abort(OWNER, row.id),
        lambda: take(row),
        lambda: uploads.complete(OWNER, uuid4()),
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.code == "upload_not_found"
    assert uploads.complete("bob", row.id).status == "completed"


def test_an_owner_keeps_no_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_UPLOADS__OPEN", "3")
    point_settings()
    made = [begin() for _ in range(3)]
    refused = uploads.draft(uploads.Wanted(size_bytes=1))
    with pytest.raises(TooManyRequests) as caught, db.transaction() as session:
        uploads.record(session, OWNER, refused)
    assert (caught.value.code, caught.value.extra["limit"]) == ("too_many_open_uploads", 3)
    uploads.discard(refused)
    assert begin(owner="bob").status == "open"
    uploads.abort(OWNER, made[0].id)
    send(made[1], bytes(1000))
    finish(made[1])
    begin()
    take(made[1])
    parcels.age(made[2], 25 * 3600)
    assert [begin().status, begin().status] == ["open", "open"]


def test_many_at_once_get_no_more_places_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPDEFEND_UPLOADS__OPEN", "2")
    point_settings()
    drafts = [uploads.draft(uploads.Wanted(size_bytes=1)) for _ in range(6)]
    together = threading.Barrier(6)

    def race(begun: uploads.Draft) -> bool:
        together.wait()
        try:
            with db.transaction() as session:
                uploads.record(session, OWNER, begun)
        except TooManyRequests:
            uploads.discard(begun)
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(race, drafts)) == 2


class Died(BaseException):
    """Stands for a SIGKILL: no handler of the product may see it, so its lease is put back by hand."""


def die_at(monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool) -> None:
    """The next call of that method of the storage is the last thing the process does."""
    real = getattr(S3Storage, method)

    def dying(self: S3Storage, *values: Any, **named: Any) -> Any:
        monkeypatch.setattr(S3Storage, method, real)
        if after:
            real(self, *values, **named)
        raise Died

    monkeypatch.setattr(S3Storage, method, dying)


@pytest.mark.parametrize(
    ("method", "after"),
    [("parts", False), ("parts", True), ("join_parts", False), ("join_parts", True), ("digest", True)],
)
def test_a_completion_goes_on_where_a_killed_one_ended(
    monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool
) -> None:
    row, data = sent(PART + 1)
    monkeypatch.setattr(completion._Lease, "release", lambda *_: None)  # the dead release nothing
    die_at(monkeypatch, method, after=after)
    with pytest.raises(Died):
        finish(row)
    with pytest.raises(CompletionInProgress) as caught:
        finish(row)
    assert 1 <= caught.value.extra["retry_after"] <= completion.LONGEST_WAIT
    parcels.age(row, completion.LEASE.total_seconds())
    assert finish(row).sha256 == hashlib.sha256(data).hexdigest()
    assert kept() == ([row.object_key], [])


def test_one_that_fails_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = sent()

    def away(*_: Any, **__: Any) -> None:
        raise StorageError

    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "digest", away)
        with pytest.raises(StorageError):
            finish(row)
    assert finish(row).status == "completed"


def test_of_two_at_once_one_works_and_one_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = sent()
    reading, go = threading.Event(), threading.Event()
    real = S3Storage.digest

    def slow(self: S3Storage, *values: Any, **named: Any) -> Any:
        reading.set()
        assert go.wait(30)
        return real(self, *values, **named)

    monkeypatch.setattr(S3Storage, "digest", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(finish, row)
        assert reading.wait(30)
        with pytest.raises(CompletionInProgress):
            finish(row)
        go.set()
        assert first.result().status == "completed"
    assert finish(row).status == "completed"


def test_a_long_reading_keeps_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = sent(3 * MiB)
    monkeypatch.setattr(completion, "RENEW_SECONDS", 0.0)
    seen: list[Any] = []
    real = completion._Lease.checkpoint

    def watched(lease: completion._Lease) -> None:
        real(lease)
        with db.read() as session:
            seen.append(session.get_one(Upload, row.id).lease_expires)

    monkeypatch.setattr(completion._Lease, "checkpoint", watched)
    finish(row)
    assert len(seen) >= 3
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]


def test_one_that_slept_through_its_lease_leaves_the_other_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its renewal nor its end touches what is the second one's by then."""
    row, data = sent(3 * MiB)
    monkeypatch.setattr(completion, "RENEW_SECONDS", 0.0)
    real = S3Storage.digest

    def overtaken(self: S3Storage, *values: Any, **named: Any) -> Any:
        monkeypatch.setattr(S3Storage, "digest", real)
        with db.transaction() as session:
            session.execute(text("UPDATE uploads SET lease_expires = now() + interval '20 s'"))
        return real(self, *values, **named)

    monkeypatch.setattr(S3Storage, "digest", overtaken)
    with pytest.raises(CompletionInProgress):
        finish(row)
    held = current(row)
    assert held is not None
    assert held.lease_expires is not None, "the other's lease stands"
    parcels.age(row, 60)
    assert finish(row).sha256 == hashlib.sha256(data).hexdigest()


def test_one_that_is_aborted_while_it_is_read_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the worst moment: who aborts finds parts that are just being joined, and no object."""
    row, _ = sent()
    real = S3Storage.join_parts

    def interrupted(self: S3Storage, *values: Any) -> None:
        with db.transaction() as session:
            session.execute(text("UPDATE uploads SET status = 'aborted', multipart_id = NULL"))
        real(self, *values)

    monkeypatch.setattr(S3Storage, "join_parts", interrupted)
    assert code(lambda: finish(row)) == "upload_aborted"
    assert kept() == ([], [])


def test_parts_that_the_bucket_has_lost_end_the_upload() -> None:
    row, _ = sent()
    storage().abort_parts(row.object_key, row.multipart_id or "")
    with pytest.raises(NotFound):
        uploads.received(row)
    assert code(lambda: finish(row)) == "upload_aborted"
    found = current(row)
    assert found is not None
    assert (found.status, found.multipart_id) == ("aborted", None)


def test_an_object_that_shows_late_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = sent()

    def late(*_: Any, **__: Any) -> None:
        raise NotFound

    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "digest", late)
        with pytest.raises(StorageError):
            finish(row)
    assert finish(row).status == "completed"
