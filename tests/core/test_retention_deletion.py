"""Deleting a whole analysis: what goes, who is fenced, and what the receipt says."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text

from core import analyses, audit, db, feedback, idempotency, retention, steps
from core.config import settings
from core.domain import Label, Options, Stage
from core.errors import Conflict, Fenced, NotFound, StorageError
from core.keys import Caller
from core.models import Analysis, AuditEntry, Base, Erasure, Media, Upload
from core.retention import Fate, condemned, erasing
from core.storage import storage
from core.webhooks import endpoints
from core.webhooks.domain import EventType
from tests.core.eraser import (
    away,
    ended,
    extracted,
    file_of,
    held,
    let_pass,
    objects,
    picture,
    pretend_killed,
    scratch,
    submitted,
    uploaded,
)
from tests.core.factories import claim_step, create_caller

CONTENT = b"the same bytes, sent more than once"


def condemn(owner: Caller, analysis_id: UUID) -> UUID:
    with db.transaction() as session:
        return retention.condemn_analysis(
            session, analysis_id, actor=owner.key_id, owner=owner.owner, request_id="request-1"
        )


def delete(owner: Caller, analysis_id: UUID) -> retention.Receipt:
    retention.carry_out(condemn(owner, analysis_id))
    return receipt(owner, analysis_id)


def receipt(owner: Caller, analysis_id: UUID) -> retention.Receipt:
    with db.read() as session:
        return retention.find_receipt(session, owner.owner, analysis_id)


def entries(*actions: audit.Action) -> list[AuditEntry]:
    with db.read() as session:
        query = select(AuditEntry).where(AuditEntry.action.in_([action.value for action in actions]))
        return list(session.scalars(query.order_by(AuditEntry.at, AuditEntry.id)))


def tables_with_rows() -> set[str]:
    with db.read() as session:
        tables = Base.metadata.sorted_tables
        return {t.name for t in tables if session.scalar(select(func.count()).select_from(t))}


def fill_every_table(owner: Caller) -> UUID:
    """An analysis that came by an upload in parts and an idempotent request, and told two endpoints."""
    with db.transaction() as session:
        endpoints.create(session, owner.owner, url="https://example.org/a", events=list(EventType))
        endpoints.create(session, owner.owner, url="https://example.org/b", events=list(EventType))
    identity = submitted(owner)
    with db.transaction() as session:
        session.add(
            Upload(
                owner=owner.owner,
                status="used",
                object_key="media/parts",
                size_bytes=1,
                part_bytes=1,
                expires_at=func.now(),
                analysis_id=identity,
            )
        )
        claim = idempotency.Claim(owner=owner.owner, key="k", holder="h")
        assert idempotency.begin(session, claim)
        answer = idempotency.Answer(status=202, headers={}, body={"id": str(identity)})
        idempotency.settle(session, claim, payload="p", answer=answer, analysis_id=identity)
    ended(identity)
    with db.transaction() as session:
        feedback.give(session, owner, identity, label=Label.FAKE, note="by its maker")
        session.execute(
            text(
                "INSERT INTO webhook_attempts (delivery_id, number, milliseconds)"
                " SELECT id, 1, 9 FROM webhook_deliveries"
            )
        )
    return identity


def test_everything_that_is_about_it_goes(owner: Caller) -> None:
    identity = fill_every_table(owner)
    assert tables_with_rows() == {
        "analyses", "api_keys", "audit_entries", "feedback", "idempotency_keys", "intervals", "media",
        "steps", "tracks", "uploads", "webhook_attempts", "webhook_deliveries", "webhook_endpoints",
    }  # fmt: skip
    found = delete(owner, identity)
    assert tables_with_rows() == {"api_keys", "audit_entries", "webhook_endpoints"}
    assert objects() == []
    told = found.rows.pop("webhook_deliveries")
    assert told == found.rows.pop("webhook_attempts") > 0
    assert found.rows == {
        "analyses": 1, "feedback": 1, "idempotency_keys": 1, "intervals": 4, "media": 1, "steps": 3,
        "tracks": 1, "uploads": 1,
    }  # fmt: skip


def test_whatever_refers_to_an_analysis_goes_with_it() -> None:
    """A table that comes later must say so as well, or a deletion fails on it."""
    for table in condemned.dependents():
        keys = [key for key in table.foreign_keys if key.column.table is Analysis.__table__]
        assert [key.ondelete for key in keys] == ["CASCADE"], table.name


def test_the_log_says_who_asked_and_when_it_was_done(owner: Caller) -> None:
    identity = ended(submitted(owner))
    file = file_of(identity)
    found = delete(owner, identity)
    asked, done = entries(audit.Action.ANALYSIS_DELETED, audit.Action.ANALYSIS_ERASED)
    for entry in (asked, done):
        assert (entry.actor, entry.owner, entry.subject) == (owner.key_id, owner.owner, str(identity))
        assert entry.request_id == "request-1"
    assert asked.detail == {"erasure": str(found.id), "status": "completed", "rows": found.rows}
    assert retention.Receipt.model_validate(done.detail) == found
    assert found.media == retention.MediaFate(sha256=file.sha256, size_bytes=64, fate=Fate.ERASED)
    assert found.completed_at is not None
    assert found.completed_at >= found.requested_at
    assert (found.objects, found.requested_by) == (3, owner.key_id)


def test_a_strangers_analysis_and_one_that_never_was_are_not_there(owner: Caller) -> None:
    identity = ended(submitted(owner))
    with db.transaction() as session:
        mallory = create_caller(session, "mallory")
    for caller, wanted in ((mallory, identity), (owner, uuid4())):
        with pytest.raises(NotFound):
            condemn(caller, wanted)
        with pytest.raises(NotFound):
            receipt(caller, wanted)
    delete(owner, identity)
    with pytest.raises(NotFound):
        receipt(mallory, identity)
    with pytest.raises(NotFound):
        condemn(owner, identity)


def test_a_held_analysis_stays_as_it_is(owner: Caller) -> None:
    identity = ended(submitted(owner))
    held(owner, identity)
    there, rows = objects(), tables_with_rows()
    with pytest.raises(Conflict) as caught:
        condemn(owner, identity)
    assert caught.value.code == "legal_hold"
    assert (objects(), tables_with_rows()) == (there, rows)


def test_one_that_waits_is_ended_and_gone_at_once(owner: Caller) -> None:
    identity = submitted(owner)
    found = delete(owner, identity)
    assert found.complete, "nobody had begun"
    assert (objects(), found.objects) == ([], 1)


def test_a_worker_at_work_is_fenced_and_waited_for(owner: Caller) -> None:
    identity = submitted(owner)
    with db.transaction() as session:
        claim = claim_step(session, identity, Stage.EXTRACT)
    scratch(identity)
    erasure = condemn(owner, identity)
    with pytest.raises(Fenced), db.transaction() as session:
        steps.finish(session, claim)
    with db.transaction() as session:
        assert steps.beat(session, [claim], settings().steps) == set()
    assert not retention.carry_out(erasure)
    pending = receipt(owner, identity)
    assert (pending.complete, pending.objects, pending.completed_at) == (False, None, None)
    assert objects() == []
    picture(identity)  # it had not noticed yet
    with db.transaction() as session:
        due = session.scalars(select(Erasure.due_at - Erasure.requested_at)).one()
        assert due == analyses.SETTLED
        session.execute(text("UPDATE erasures SET settled_at = now()"))
    assert retention.carry_out(erasure)
    assert objects() == []
    found = receipt(owner, identity)
    assert (found.complete, found.objects) == (True, 3)


@pytest.mark.parametrize(("ago", "waits"), [("0 seconds", True), ("1 hour", False)])
def test_so_is_one_that_was_canceled_a_moment_ago(owner: Caller, ago: str, waits: bool) -> None:
    identity = submitted(owner)
    extracted(identity)
    ended(identity, "canceled")
    let_pass(ago, "completed_at")
    assert delete(owner, identity).complete is not waits


def test_a_shared_file_stays_with_the_other_and_goes_with_the_last(owner: Caller) -> None:
    first, second = (ended(submitted(owner, content=CONTENT)) for _ in range(2))
    kept = file_of(second).object_key
    found = delete(owner, first)
    assert found.media is not None
    assert (found.media.fate, found.rows["media"], found.objects) == (Fate.KEPT, 0, 2)
    assert storage().read(kept) == CONTENT
    assert len(objects(analyses.folder(second))) == 2
    last = delete(owner, second)
    assert last.media is not None
    assert (last.media.fate, last.rows["media"]) == (Fate.ERASED, 1)
    assert objects() == []


def test_a_file_that_only_a_report_names_goes_and_its_row_stays(owner: Caller) -> None:
    erased = ended(submitted(owner, content=CONTENT, retention_hours=0))
    other = ended(submitted(owner, content=CONTENT))
    retention.erase_media_if_due(erased)
    assert len(objects(analyses.FILES)) == 1
    found = delete(owner, other)
    assert objects() == []
    assert found.media is not None
    assert (found.media.fate, found.rows["media"]) == (Fate.ERASED, 0)
    assert file_of(erased).erased_at is not None
    assert delete(owner, erased).media == found.media.model_copy(update={"fate": Fate.GONE})
    with db.read() as session:
        assert session.scalars(select(Media)).all() == []


def test_what_retention_had_not_finished_is_finished_by_the_deletion(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    with db.transaction() as session:
        earlier = retention.condemn_media(session, identity, actor=audit.DISPATCHER)
    found = delete(owner, identity)
    assert found.media is not None
    assert (found.media.fate, found.objects) == (Fate.ERASED, 3)
    assert objects() == []
    assert earlier is not None
    assert retention.carry_out(earlier)
    assert len(entries(audit.Action.MEDIA_ERASED)) == 1


def test_while_the_storage_is_away_the_receipt_is_pending(owner: Caller) -> None:
    identity = ended(submitted(owner))
    there = objects()
    erasure = condemn(owner, identity)
    with away(), pytest.raises(StorageError):
        retention.carry_out(erasure)
    pending = receipt(owner, identity)
    assert (pending.complete, pending.objects, pending.bytes) == (False, None, None)
    assert objects() == there
    assert entries(audit.Action.ANALYSIS_ERASED) == []
    assert retention.carry_out(erasure)
    assert receipt(owner, identity).objects == 3


@pytest.mark.parametrize("point", ["_note", "_close"])
def test_a_killed_process_is_made_up_for(owner: Caller, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    identity = ended(submitted(owner))
    erasure = condemn(owner, identity)
    pretend_killed(monkeypatch, erasing, point)
    with pytest.raises(KeyboardInterrupt):
        retention.carry_out(erasure)
    monkeypatch.undo()
    assert not receipt(owner, identity).complete
    with db.transaction() as session:
        session.execute(text("UPDATE erasures SET due_at = now()"))
    with db.read() as session:
        assert retention.due(session, 10) == [erasure], "the dispatcher finds it"
    assert retention.carry_out(erasure)
    assert receipt(owner, identity).objects == 3, "what the killed one deleted is counted"


def test_whoever_deletes_has_some_time_before_the_dispatcher_joins_in(owner: Caller) -> None:
    condemn(owner, ended(submitted(owner)))
    with db.read() as session:
        assert retention.due(session, 10) == []
        later = session.scalars(select(Erasure.due_at - Erasure.requested_at)).one()
    assert later == condemned.OWN_TIME == timedelta(seconds=30)


def test_its_bytes_may_come_again(owner: Caller) -> None:
    first = ended(submitted(owner, content=CONTENT))
    erasure = condemn(owner, first)
    again = submitted(owner, content=CONTENT)
    assert retention.carry_out(erasure)
    assert objects() == [file_of(again).object_key]


def test_a_submission_brings_its_row_anew(owner: Caller) -> None:
    """The media row went with the last analysis: the same bytes are a new file."""
    first = ended(submitted(owner, content=CONTENT))
    before = file_of(first).id
    delete(owner, first)
    with db.transaction() as session:
        accepted = analyses.submit(session, caller=owner, source=uploaded(CONTENT), options=Options())
        assert accepted.surplus_key is None
        assert accepted.analysis.file.id != before
        assert accepted.analysis.file.facts is None
