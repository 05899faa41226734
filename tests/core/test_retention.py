"""When file and pictures are due, what goes with whom, and what is said of it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from core import analyses, audit, db, retention
from core.domain import AnalysisStatus, Options, Terms
from core.errors import StorageError
from core.keys import Caller
from core.models import Analysis, AuditEntry, Erasure, Interval, Media, Track
from core.retention import erasing
from core.storage import storage
from tests.conftest import point_settings
from tests.core.eraser import (
    away,
    ended,
    extracted,
    file_of,
    held,
    let_pass,
    load,
    objects,
    picture,
    pretend_killed,
    scratch,
    submitted,
)

CONTENT = b"the same bytes, sent more than once"


def due() -> list[UUID]:
    with db.read() as session:
        return list(session.scalars(retention.media_due_query()))


def condemn(analysis_id: UUID) -> UUID | None:
    with db.transaction() as session:
        return retention.condemn_media(session, analysis_id, actor=audit.DISPATCHER)


def erase(analysis_id: UUID) -> None:
    """As the dispatcher does, in two steps."""
    erasure = condemn(analysis_id)
    assert erasure is not None
    assert retention.carry_out(erasure)


def is_erased(analysis_id: UUID) -> bool:
    return load(analysis_id).media_erased_at is not None


def receipts() -> list[retention.Receipt]:
    with db.read() as session:
        query = select(AuditEntry).where(AuditEntry.action == audit.Action.MEDIA_ERASED.value)
        entries = session.scalars(query.order_by(AuditEntry.at)).all()
    return [retention.Receipt.model_validate(entry.detail) for entry in entries]


@pytest.mark.parametrize("end", ["completed", "failed", "canceled"])
@pytest.mark.parametrize(("asked", "hours"), [(None, 30 * 24), (0, 0), (1, 1), (87_600, 87_600)])
def test_every_end_says_until_when_the_file_is_kept(
    owner: Caller, end: str, asked: int | None, hours: int
) -> None:
    row = load(ended(submitted(owner, retention_hours=asked), end))
    assert row.completed_at is not None
    assert row.media_until is not None
    kept = row.media_until - row.completed_at
    assert kept == pytest.approx(timedelta(hours=hours), abs=timedelta(seconds=1))
    assert row.media_erased_at is None
    assert due() == ([row.id] if hours == 0 else [])


def test_without_a_rule_it_is_kept_unless_the_sender_said_otherwise(
    owner: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPDEFEND_RETENTION__MEDIA", "never")
    point_settings()
    kept, short = submitted(owner), submitted(owner, retention_hours=0)
    for identity in (kept, short):
        ended(identity)
    monkeypatch.undo()
    point_settings()
    assert load(kept).media_until is None
    let_pass("100 years", "media_until", "completed_at")
    assert due() == [short]


def test_what_lives_is_held_or_was_erased_is_not_due(owner: Caller) -> None:
    living = submitted(owner, retention_hours=0)
    kept, gone, going = (ended(submitted(owner, retention_hours=0)) for _ in range(3))
    held(owner, kept)
    erase(gone)
    assert condemn(going) is not None
    for identity in (living, kept, gone, going):
        assert condemn(identity) is None
    assert due() == []


def test_the_longest_due_comes_first(owner: Caller) -> None:
    later, first = (ended(submitted(owner, retention_hours=hours)) for hours in (2, 1))
    assert due() == []
    let_pass("3 hours", "media_until")
    assert due() == [first, later]


def test_file_and_pictures_go_and_the_report_stays(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    with db.transaction() as session:
        analyses.load(session, identity).artifacts = {"spectrogram": "pictures-1/spectrogram.png"}
    before, file = load(identity), file_of(identity)
    assert len(objects()) == 3  # the file, a picture and a shard of crops
    erase(identity)
    after = load(identity)
    assert objects() == []
    assert after.media_erased_at is not None
    assert after.artifacts == {}
    assert after.version == before.version + 1, "watchers see it"
    assert (after.report, after.verdict, after.status) == (before.report, before.verdict, "completed")
    assert after.file.facts == file.facts
    with db.read() as session:
        assert len(session.scalars(select(Interval)).all()) == 4
        assert [track.thumbnail_key for track in session.scalars(select(Track))] == [None]
        assert session.scalars(select(Erasure)).all() == []
    (receipt,) = receipts()
    assert receipt.complete
    assert (receipt.objects, receipt.bytes) == (3, 64 + len(b"crops") + len(b"jpeg"))
    assert receipt.media == retention.MediaFate(sha256=file.sha256, size_bytes=64, fate=retention.Fate.ERASED)


def test_an_analysis_without_a_file_has_only_its_folder_to_lose(owner: Caller) -> None:
    with db.transaction() as session:
        row = analyses.submit(
            session,
            caller=owner,
            source=analyses.RemoteFile(url="https://example.org/clip.mp4"),
            options=Options(),
            terms=Terms(retention_hours=0),
        ).analysis
    ended(row.id, "canceled")
    erase(row.id)
    (receipt,) = receipts()
    assert (receipt.media, receipt.objects) == (None, 0)


def keep_living(_: Caller, other: UUID) -> None:
    assert load(other).completed_at is None


def keep_longer(_: Caller, other: UUID) -> None:
    ended(other)


def keep_for_good(_: Caller, other: UUID) -> None:
    ended(other)
    with db.transaction() as session:
        session.execute(text("UPDATE analyses SET media_until = NULL WHERE id = :id"), {"id": other})


def keep_held(owner: Caller, other: UUID) -> None:
    ended(other)
    held(owner, other)
    with db.transaction() as session:
        session.execute(text("UPDATE analyses SET media_until = now() WHERE id = :id"), {"id": other})


@pytest.mark.parametrize("keep", [keep_living, keep_longer, keep_for_good, keep_held])
def test_a_file_that_another_analysis_needs_stays(owner: Caller, keep: object) -> None:
    assert callable(keep)
    identity = ended(submitted(owner, content=CONTENT, retention_hours=0))
    other = submitted(owner, content=CONTENT)
    keep(owner, other)
    erase(identity)
    file = file_of(identity)
    assert file.erased_at is None
    assert storage().read(file.object_key) == CONTENT
    assert objects(analyses.folder(identity)) == [], "the pictures are its own"
    assert is_erased(identity)
    (receipt,) = receipts()
    assert receipt.media is not None
    assert receipt.media.fate is retention.Fate.KEPT


def test_the_last_that_needs_a_file_takes_it_along(owner: Caller) -> None:
    first, second, third = (submitted(owner, content=CONTENT, retention_hours=0) for _ in range(3))
    ended(first)
    erase(first)
    ended(second)
    ended(third, "failed")
    assert due() == [second, third]
    erase(second)
    assert objects(analyses.FILES) == [], "the third has no use for it any more"
    with db.transaction() as session:
        session.execute(text("UPDATE analyses SET completed_at = completed_at - interval '1 hour'"))
    erase(third)
    fates = [receipt.media.fate.value for receipt in receipts() if receipt.media]
    assert fates == ["kept", "erased", "gone"]
    assert file_of(first).erased_at is not None


def test_another_owners_copy_is_another_file(owner: Caller) -> None:
    stranger = Caller(key_id="x" * 8, owner="stranger", scopes=frozenset())
    theirs = submitted(stranger, content=CONTENT)
    erase(ended(submitted(owner, content=CONTENT, retention_hours=0)))
    assert storage().read(file_of(theirs).object_key) == CONTENT


def test_the_same_bytes_may_come_again(owner: Caller) -> None:
    first = ended(submitted(owner, content=CONTENT, retention_hours=0))
    facts, erased_key = file_of(first).facts, file_of(first).object_key
    erase(first)
    again = submitted(owner, content=CONTENT)
    file = file_of(again)
    assert file.id == file_of(first).id
    assert (file.erased_at, file.facts) == (None, facts)
    assert file.object_key != erased_key
    assert objects() == [file.object_key]
    assert storage().read(file.object_key) == CONTENT
    assert is_erased(first), "what it had is gone all the same"
    assert condemn(first) is None


def test_bytes_that_come_while_the_old_ones_go_stay(owner: Caller) -> None:
    first = ended(submitted(owner, content=CONTENT, retention_hours=0))
    old = file_of(first).object_key
    erasure = condemn(first)
    again = submitted(owner, content=CONTENT)
    assert erasure is not None
    assert sorted(objects(analyses.FILES)) == sorted([old, file_of(again).object_key])
    assert retention.carry_out(erasure)
    assert objects(analyses.FILES) == [file_of(again).object_key]
    assert is_erased(first)
    assert file_of(again).erased_at is None


def test_nothing_is_said_to_be_gone_while_the_storage_is_away(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    erasure = condemn(identity)
    assert erasure is not None
    with away(), pytest.raises(StorageError):
        retention.carry_out(erasure)
    assert not is_erased(identity)
    assert receipts() == []
    with db.read() as session:
        assert session.get(Erasure, erasure) is not None
    assert retention.carry_out(erasure)
    assert is_erased(identity)


@pytest.mark.parametrize("point", ["_note", "_close"])
def test_a_killed_process_changes_neither_the_end_nor_the_count(
    owner: Caller, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    erasure = condemn(identity)
    assert erasure is not None
    pretend_killed(monkeypatch, erasing, point)
    with pytest.raises(KeyboardInterrupt):
        retention.carry_out(erasure)
    assert len(objects()) == (3 if point == "_note" else 0)
    assert not is_erased(identity)
    monkeypatch.undo()
    assert retention.carry_out(erasure)
    (receipt,) = receipts()
    assert receipt.objects == 3
    assert retention.carry_out(erasure), "once more changes nothing"
    assert len(receipts()) == 1


def test_a_worker_that_may_still_write_is_waited_for(owner: Caller) -> None:
    """Canceled a moment ago, in the middle of an extraction."""
    identity = submitted(owner, retention_hours=0)
    scratch(identity)
    with db.transaction() as session:
        analyses.begin(session, identity)
    ended(identity, "canceled")
    erasure = condemn(identity)
    assert erasure is not None
    assert not retention.carry_out(erasure)
    assert objects() == [], "what is there goes at once"
    assert not is_erased(identity), "but nothing is said of it yet"
    late = picture(identity)
    with db.transaction() as session:
        assert retention.due(session, 10) == []
        session.execute(text("UPDATE erasures SET settled_at = now(), due_at = now()"))
    with db.read() as session:
        assert retention.due(session, 10) == [erasure]
    assert retention.carry_out(erasure)
    assert (objects(), is_erased(identity)) == ([], True)
    (receipt,) = receipts()
    assert receipt.objects == 3, f"the late one too: {late}"


def test_zero_retention_is_seen_to_at_once(owner: Caller) -> None:
    zero, longer = submitted(owner, retention_hours=0), submitted(owner, retention_hours=1)
    for identity in (zero, longer):
        ended(identity)
        retention.erase_media_if_due(identity)
    assert (is_erased(zero), is_erased(longer)) == (True, False)
    assert objects(analyses.FILES) == [file_of(longer).object_key]
    with db.read() as session:
        (entry,) = session.scalars(
            select(AuditEntry).where(AuditEntry.action == audit.Action.MEDIA_ERASED.value)
        )
    assert (entry.actor, entry.owner, entry.subject) == (audit.WORKER, owner.owner, str(zero))


def test_one_that_the_storage_refuses_lets_others_go_first(owner: Caller) -> None:
    refused, fine = (condemn(ended(submitted(owner, retention_hours=0))) for _ in range(2))
    assert refused is not None
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET due_at = now()"))
        retention.postpone(session, refused)
    with db.read() as session:
        assert retention.due(session, 10) == [fine]


def test_an_analysis_that_was_deleted_meanwhile_is_no_error(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    erasure = condemn(identity)
    assert erasure is not None
    with db.transaction() as session:
        retention.condemn_analysis(session, identity, actor=owner.key_id)
    assert retention.carry_out(erasure)
    assert objects() == []
    with db.read() as session:
        assert session.scalars(select(Analysis)).all() == []
        assert session.scalars(select(Media)).all() == []


def test_a_cleared_analysis_ends_with_its_file_too(owner: Caller) -> None:
    """The leftovers of a failed analysis are another chore; this one takes the file."""
    identity = submitted(owner, retention_hours=0)
    extracted(identity)
    with db.transaction() as session:
        assert analyses.transition(session, identity, AnalysisStatus.FAILED, error={})
    let_pass("2 minutes", "completed_at", "media_until")
    erase(identity)
    assert objects() == []
