"""The dispatcher's chores: done again until they are done, whatever is away, and none ends the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from core import analyses, audit, db
from core.keys import Caller
from core.models import Analysis, AuditEntry, Erasure
from core.storage import storage
from tests.conftest import point_settings
from tests.core.eraser import (
    ended,
    file_of,
    held,
    let_pass,
    load,
    objects,
    submitted,
)
from tests.core.factories import create_caller
from workers import housekeeping

NOWHERE = "http://127.0.0.1:1"
NEVER = threading.Event()
SOON = timedelta(0)


@pytest.fixture
def caller(clean_database: str, bucket: str) -> Caller:
    """The owner of everything, beside an empty database and an empty bucket."""
    assert clean_database
    assert bucket
    storage().delete_prefix("")
    with db.transaction() as session:
        return create_caller(session, "newsroom")


@pytest.fixture
def no_storage(bucket: str) -> Iterator[Callable[[], None]]:
    """The storage is away from here on; call it to have it back."""
    assert bucket
    address = str(storage()._config.endpoint_url)
    away(NOWHERE)
    yield lambda: away(address)
    away(address)


def away(address: str) -> None:
    point_settings(DEEPDEFEND_S3__ENDPOINT_URL=address)
    storage.cache_clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two rounds."""
    monkeypatch.setattr(housekeeping, "PAUSE", timedelta(milliseconds=1))
    monkeypatch.setattr(housekeeping, "OUTAGE_PAUSE", timedelta(milliseconds=1))


def receipts() -> list[AuditEntry]:
    with db.read() as session:
        actions = [audit.Action.MEDIA_ERASED.value, audit.Action.ANALYSIS_ERASED.value]
        query = select(AuditEntry).where(AuditEntry.action.in_(actions)).order_by(AuditEntry.at)
        return list(session.scalars(query))


def owed() -> list[UUID]:
    with db.read() as session:
        return list(session.scalars(select(Erasure.id)))


def test_what_is_due_goes_and_what_is_not_stays(caller: Caller) -> None:
    due, fresh = ended(submitted(caller, retention_hours=0)), ended(submitted(caller, retention_hours=1))
    kept = file_of(fresh).object_key
    assert not housekeeping.erase_due(NEVER)
    assert objects() == sorted([kept, *objects(analyses.folder(fresh))])
    assert (load(due).media_erased_at is None, load(fresh).media_erased_at is None) == (False, True)
    (entry,) = receipts()
    assert (entry.actor, entry.subject, entry.action) == ("dispatcher", str(due), "media.erased")
    assert not housekeeping.erase_due(NEVER)
    assert len(receipts()) == 1, "once"


def test_whole_analyses_go_when_the_settings_say_so(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (ended(submitted(caller), end) for end in ("completed", "failed", "canceled"))
    held(caller, second)
    let_pass("48 hours", "completed_at")
    young, living = ended(submitted(caller)), submitted(caller)
    housekeeping.erase_due(NEVER)
    assert receipts() == []
    monkeypatch.setenv("DEEPDEFEND_RETENTION__ANALYSES", "P1D")
    point_settings()
    housekeeping.erase_due(NEVER)
    monkeypatch.undo()
    point_settings()
    with db.read() as session:
        assert set(session.scalars(select(Analysis.id))) == {second, living, young}
    assert {entry.subject for entry in receipts()} == {str(first), str(third)}
    assert {entry.actor for entry in receipts()} == {"dispatcher"}
