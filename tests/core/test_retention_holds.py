"""Legal holds: what they keep, from whom, and when they come too late."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import select, text

from core import analyses, audit, db, retention
from core.errors import Conflict, NotFound
from core.keys import Caller
from core.models import Analysis, AuditEntry
from tests.core.eraser import ended, extracted, held, let_pass, load, objects, submitted
from tests.core.factories import create_caller

CONTENT = b"the same bytes, sent more than once"


def release(owner: Caller, identity: object) -> Analysis:
    with db.transaction() as session:
        return retention.release(session, owner, identity)  # type: ignore[arg-type]


def log() -> list[tuple[str, str, dict[str, object]]]:
    actions = [audit.Action.HOLD_SET.value, audit.Action.HOLD_RELEASED.value]
    with db.read() as session:
        rows = session.scalars(
            select(AuditEntry).where(AuditEntry.action.in_(actions)).order_by(AuditEntry.at, AuditEntry.id)
        )
        return [(row.action, row.actor, row.detail) for row in rows]


def test_a_hold_is_seen_and_logged(owner: Caller) -> None:
    identity = ended(submitted(owner))
    before = load(identity)
    after = held(owner, identity, "case 7")
    assert (after.hold_reason, after.held_at is not None) == ("case 7", True)
    assert after.version == before.version + 1
    assert log() == [("hold.set", owner.key_id, {"reason": "case 7"})]


def test_the_same_again_changes_nothing_and_another_reason_only_that(owner: Caller) -> None:
    identity = ended(submitted(owner))
    first = held(owner, identity, "case 7")
    again = held(owner, identity, "case 7")
    assert (again.version, again.held_at) == (first.version, first.held_at)
    other = held(owner, identity, "case 8")
    assert (other.hold_reason, other.held_at) == ("case 8", first.held_at)
    assert [detail["reason"] for _, _, detail in log()] == ["case 7", "case 8"]


def test_released_it_is_due_again(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    since = held(owner, identity).held_at
    with db.transaction() as session:
        assert retention.condemn_media(session, identity, actor=audit.DISPATCHER) is None
    retention.erase_media_if_due(identity)
    assert len(objects()) == 3
    freed = release(owner, identity)
    assert (freed.held_at, freed.hold_reason) == (None, None)
    assert release(owner, identity).version == freed.version, "once more changes nothing"
    retention.erase_media_if_due(identity)
    assert objects() == []
    assert since is not None
    assert log()[1:] == [("hold.released", owner.key_id, {"reason": "case 7", "held_at": since.isoformat()})]


def test_a_stranger_can_neither_hold_nor_release(owner: Caller) -> None:
    identity = ended(submitted(owner))
    with db.transaction() as session:
        mallory = create_caller(session, "mallory")
    for caller, wanted in ((mallory, identity), (owner, uuid4())):
        with pytest.raises(NotFound):
            held(caller, wanted)
        with pytest.raises(NotFound):
            release(caller, wanted)
    assert load(identity).held_at is None


def test_what_lives_can_be_held_and_canceled_but_loses_nothing(owner: Caller) -> None:
    identity = submitted(owner, retention_hours=0)
    extracted(identity)
    held(owner, identity)
    ended(identity, "canceled")
    let_pass("1 hour", "completed_at", "media_until")
    with db.read() as session:
        assert analyses.uncleared(session) == [], "nor do its working files go"
        assert not analyses.is_without_report(session, identity)
        assert list(session.scalars(retention.media_due_query())) == []
    assert len(objects()) == 3


def test_once_its_file_is_going_it_is_too_late_and_then_the_rest_can_be_held(owner: Caller) -> None:
    identity = ended(submitted(owner, retention_hours=0))
    with db.transaction() as session:
        erasure = retention.condemn_media(session, identity, actor=audit.DISPATCHER)
    assert erasure is not None
    with pytest.raises(Conflict) as caught:
        held(owner, identity)
    assert caught.value.code == "erasure_in_progress"
    assert retention.carry_out(erasure)
    row = held(owner, identity)
    assert (row.held_at is not None, row.media_erased_at is not None) == (True, True)


def test_nor_can_one_be_held_whose_file_went_with_another(owner: Caller) -> None:
    first, second = (ended(submitted(owner, content=CONTENT, retention_hours=0)) for _ in range(2))
    with db.transaction() as session:
        assert retention.condemn_media(session, first, actor=audit.DISPATCHER)
    with pytest.raises(Conflict) as caught:
        held(owner, second)
    assert caught.value.code == "erasure_in_progress"
    retention.erase_media_if_due(second)
    assert held(owner, second).media_erased_at is not None


def test_a_hold_keeps_the_file_from_those_who_share_it(owner: Caller) -> None:
    kept, other = (ended(submitted(owner, content=CONTENT, retention_hours=0)) for _ in range(2))
    held(owner, kept)
    with db.transaction() as session:
        erasure = retention.condemn_analysis(session, other, actor=owner.key_id)
    retention.carry_out(erasure)
    assert len(objects(analyses.FILES)) == 1
    assert len(objects(analyses.folder(kept))) == 2
    assert objects(analyses.folder(other)) == []


def test_whole_analyses_are_kept_as_well(owner: Caller) -> None:
    kept, free = ended(submitted(owner)), ended(submitted(owner))
    held(owner, kept)
    let_pass("48 hours", "completed_at")
    with db.transaction() as session:
        day = session.scalars(select(text("interval '1 day'"))).one()
        assert list(session.scalars(retention.analyses_due_query(day))) == [free]
