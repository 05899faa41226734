"""How uploads end that nobody uses: aborted, expired, swept, forgotten, and erased with their analysis."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from core import analyses, db, uploads
from core.domain import Options
from core.errors import Conflict, StorageError
from core.models import Analysis, Upload
from core.storage import S3Storage, storage
from core.uploads import completion
from tests.core.factories import create_caller
from tests.core.parcels import OWNER, age, begin, current, kept, sent

DAY = timedelta(days=1).total_seconds()


@pytest.fixture(autouse=True)
def empty(clean_database: str, bucket: str) -> Iterator[None]:
    """No row, no object, no loose part, before and after."""
    assert clean_database
    assert bucket
    storage().delete_prefix("media/")
    yield
    for item in storage().stale_multipart_uploads(timedelta(0)):
        storage().abort_parts(item.key, item.multipart_id)


def status(row: Upload) -> str | None:
    found = current(row)
    return found.status if found else None


def test_aborting_drops_parts_and_object_and_can_be_done_again() -> None:
    opened, _ = sent()
    joined, _ = sent()
    uploads.complete(OWNER, joined.id)
    for row in (opened, joined):
        uploads.abort(OWNER, row.id)
        uploads.abort(OWNER, row.id)
        assert status(row) == "aborted"
    assert kept() == ([], [])


def test_an_abort_with_the_storage_away_is_made_good_by_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    row, _ = sent()

    def away(*_: Any) -> None:
        raise StorageError

    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "abort_parts", away)
        with pytest.raises(StorageError):
            uploads.abort(OWNER, row.id)
        assert status(row) == "aborted"
        patched.setattr(S3Storage, "check", away)
        with pytest.raises(StorageError):
            uploads.sweep()
    assert kept()[1] == [row.object_key]
    assert uploads.sweep() == 1
    assert kept() == ([], [])
    assert uploads.sweep() == 0


def test_one_that_the_storage_refuses_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    refused, other = begin(), begin()
    real = S3Storage.abort_parts

    def partly(self: S3Storage, key: str, multipart_id: str) -> None:
        if key == refused.object_key:
            raise StorageError
        real(self, key, multipart_id)

    for row in (refused, other):
        age(row, DAY + 1)
    with monkeypatch.context() as patched:
        patched.setattr(S3Storage, "abort_parts", partly)
        assert uploads.sweep() == 2
        assert kept()[1] == [refused.object_key]
    assert uploads.sweep() == 1
    assert kept() == ([], [])


def test_what_expired_is_dropped_and_what_did_not_is_left() -> None:
    old_open, _ = sent()
    old_joined, _ = sent()
    uploads.complete(OWNER, old_joined.id)
    young, _ = sent()
    for row in (old_open, old_joined):
        age(row, DAY + 1)
    for call in (
        lambda: uploads.complete(OWNER, old_open.id),
        lambda: _take(old_joined),
    ):
        with pytest.raises(Conflict) as caught:
            call()
        assert caught.value.code == "upload_expired"
    assert uploads.sweep() == 2
    assert (status(old_open), status(old_joined), status(young)) == ("aborted", "aborted", "open")
    assert kept() == ([], [young.object_key])
    with pytest.raises(Conflict) as caught:
        uploads.complete(OWNER, old_open.id)
    assert caught.value.code == "upload_aborted"


def _take(row: Upload) -> analyses.StoredUpload:
    with db.transaction() as session:
        return uploads.take(session, OWNER, row.id)


def test_one_that_is_being_completed_is_left_to_its_end() -> None:
    row, _ = sent()
    age(row, DAY + 1)
    with db.transaction() as session:
        session.get_one(Upload, row.id).lease_expires = row.created_at + completion.LEASE
    assert uploads.sweep() == 0
    age(row, completion.LEASE.total_seconds() + 1)
    assert uploads.sweep() == 1


def test_rows_are_forgotten_a_day_after_they_could_be_used() -> None:
    used, _ = sent()
    uploads.complete(OWNER, used.id)
    _take(used)
    aborted = begin()
    uploads.abort(OWNER, aborted.id)
    opened = begin()
    for row in (used, aborted, opened):
        age(row, DAY + 1)
    uploads.sweep()
    assert [status(row) for row in (used, aborted, opened)] == ["used", "aborted", "aborted"]
    for row in (used, aborted, opened):
        age(row, DAY)
    uploads.sweep()
    assert [status(row) for row in (used, aborted, opened)] == [None, None, None]
    assert kept() == ([used.object_key], []), "a used object belongs to its media row"


def test_a_sweep_and_a_taker_never_both_win() -> None:
    """The sweep waits for the submission that holds the row, and then leaves it alone."""
    row, _ = sent()
    uploads.complete(OWNER, row.id)
    with db.transaction() as session:
        uploads.take(session, OWNER, row.id)
    age(row, DAY + 1)
    assert uploads.sweep() == 0
    assert kept() == ([row.object_key], [])


def test_an_erased_analysis_takes_the_row_along() -> None:
    row, _ = sent()
    uploads.complete(OWNER, row.id)
    with db.transaction() as session:
        caller = create_caller(session, OWNER)
        source = uploads.take(session, OWNER, row.id)
        accepted = analyses.submit(session, caller=caller, source=source, options=Options())
        uploads.attribute(session, row.id, accepted.analysis.id)
    assert accepted.surplus_key is None
    assert accepted.analysis.file.object_key == row.object_key
    assert status(row) == "used"
    with db.transaction() as session:
        session.execute(delete(Analysis).where(Analysis.id == accepted.analysis.id))
    assert current(row) is None


def test_the_same_bytes_again_are_surplus() -> None:
    first, data = sent()
    uploads.complete(OWNER, first.id)
    second = begin(len(data))
    storage()._client.upload_part(
        Bucket=storage()._config.bucket,
        Key=second.object_key,
        UploadId=second.multipart_id,
        PartNumber=1,
        Body=data,
    )
    uploads.complete(OWNER, second.id)
    with db.transaction() as session:
        caller = create_caller(session, OWNER)
        ends = [
            analyses.submit(
                session, caller=caller, source=uploads.take(session, OWNER, row.id), options=Options()
            )
            for row in (first, second)
        ]
    assert [end.surplus_key for end in ends] == [None, second.object_key]


def test_parts_that_may_still_be_joined_are_named() -> None:
    opened, joined, aborted = begin(), sent()[0], begin()
    uploads.complete(OWNER, joined.id)
    uploads.abort(OWNER, aborted.id)
    with db.read() as session:
        assert uploads.named_parts(session) == {opened.multipart_id}
