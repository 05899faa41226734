"""Labels of people: whose they are, what they replace, and what they never outlive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from core import audit, db, feedback, retention
from core.domain import Label
from core.errors import Conflict, NotFound
from core.keys import Caller
from core.models import AuditEntry, Feedback
from tests.core.eraser import ended, load, submitted
from tests.core.factories import create_caller


def give(owner: Caller, identity: UUID, label: Label = Label.FAKE, note: str | None = None) -> Feedback:
    with db.transaction() as session:
        return feedback.give(session, owner, identity, label=label, note=note, request_id="r1")


def find(owner: Caller, identity: UUID) -> Feedback:
    with db.read() as session:
        return feedback.find(session, owner.owner, identity)


def log() -> list[tuple[str, dict[str, object]]]:
    with db.read() as session:
        rows = session.scalars(
            select(AuditEntry).where(AuditEntry.action == audit.Action.FEEDBACK_GIVEN.value)
        ).all()
        return [(row.actor, row.detail) for row in sorted(rows, key=lambda row: row.id)]


def test_a_label_is_kept_and_a_later_one_replaces_it(owner: Caller) -> None:
    identity = ended(submitted(owner))
    version = load(identity).version
    first = give(owner, identity, note="its maker says so")
    second = give(owner, identity, Label.REAL)
    assert (first.label, first.note, first.actor) == ("fake", "its maker says so", owner.key_id)
    kept = find(owner, identity)
    assert (kept.label, kept.note, kept.at) == ("real", None, second.at)
    assert second.at > first.at
    assert load(identity).version == version, "what a person says is no part of the answer"
    assert log() == [
        (owner.key_id, {"label": "fake", "before": None}),
        (owner.key_id, {"label": "real", "before": "fake"}),
    ]


def test_the_same_again_changes_nothing(owner: Caller) -> None:
    identity = ended(submitted(owner))
    first = give(owner, identity, note="n")
    again = give(owner, identity, note="n")
    assert (again.at, len(log())) == (first.at, 1)


@pytest.mark.parametrize("end", ["failed", "canceled", None])
def test_without_a_verdict_there_is_nothing_to_label(owner: Caller, end: str | None) -> None:
    identity = submitted(owner)
    if end is not None:
        ended(identity, end)
    with pytest.raises(Conflict) as refused:
        give(owner, identity)
    assert refused.value.code == "not_completed"
    with pytest.raises(NotFound):
        find(owner, identity)


def test_it_is_nobody_elses(owner: Caller) -> None:
    identity = ended(submitted(owner))
    give(owner, identity)
    with db.transaction() as session:
        mallory = create_caller(session, "mallory")
    with pytest.raises(NotFound):
        give(mallory, identity, Label.REAL)
    with pytest.raises(NotFound):
        find(mallory, identity)
    with pytest.raises(NotFound):
        give(owner, uuid4())
    assert find(owner, identity).label == "fake"


def test_two_at_once_leave_one_label(owner: Caller) -> None:
    identity = ended(submitted(owner))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: give(owner, identity, list(Label)[n % 2], f"note {n}"), range(16)))
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(Feedback)) == 1
    assert len(log()) == 16


def test_it_goes_with_its_analysis(owner: Caller) -> None:
    identity = ended(submitted(owner))
    give(owner, identity, note="a source's name")
    with db.transaction() as session:
        erasure = retention.condemn_analysis(session, identity, actor=owner.key_id, owner=owner.owner)
    retention.carry_out(erasure)
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(Feedback)) == 0
        assert retention.find_receipt(session, owner.owner, identity).rows["feedback"] == 1
        kept = " ".join(str(row.detail) for row in session.scalars(select(AuditEntry)))
    assert "a source's name" not in kept


def test_labelled_files_are_those_that_are_still_stored(owner: Caller) -> None:
    kept, gone = ended(submitted(owner)), ended(submitted(owner, retention_hours=0))
    give(owner, kept, Label.REAL)
    give(owner, gone)
    retention.erase_media_if_due(gone)
    with db.read() as session:
        found = list(feedback.labelled_files(session))
        assert list(feedback.labelled_files(session, "mallory")) == []
        assert list(feedback.labelled_files(session, owner.owner)) == found
    assert [(one.analysis_id, one.label, one.owner) for one in found] == [(kept, Label.REAL, owner.owner)]
    assert found[0].object_key.startswith("media/")


def test_a_file_that_another_analysis_keeps_is_gone_for_the_one_whose_time_is_over(owner: Caller) -> None:
    over = ended(submitted(owner, content=b"the same", retention_hours=0))
    kept = ended(submitted(owner, content=b"the same"))
    for identity in (over, kept):
        give(owner, identity)
    retention.erase_media_if_due(over)
    with db.read() as session:
        assert [one.analysis_id for one in feedback.labelled_files(session)] == [kept]
