"""The audit log: who sees what, in pages; and that nothing of it can be changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import audit, db, keys
from core.audit import Action, Filters
from core.errors import InvalidCursor
from core.models import AuditEntry


def write(session: Session, n: int, owner: str | None = "newsroom", action: Action = Action.HOLD_SET) -> None:
    audit.record(session, actor="abcdefgh", owner=owner, action=action, subject=str(n), detail={"n": n})


def subjects(session: Session, **filters: object) -> list[str]:
    chosen = Filters.model_validate(filters)
    return [entry.subject for entry in audit.page(session, "newsroom", filters=chosen).items]


def test_an_entry_says_all_that_it_was_told(session: Session) -> None:
    entry = audit.record(
        session,
        actor="abcdefgh",
        owner="newsroom",
        action=Action.HOLD_SET,
        subject="x",
        detail={"reason": "case 7"},
        request_id="r-1",
    )
    session.refresh(entry)
    assert (entry.actor, entry.owner, entry.action, entry.subject) == (
        "abcdefgh", "newsroom", "hold.set", "x",
    )  # fmt: skip
    assert (entry.detail, entry.request_id) == ({"reason": "case 7"}, "r-1")
    assert abs(entry.at - datetime.now(UTC)) < timedelta(minutes=1)


def test_what_is_rolled_back_was_never_done(clean_database: str) -> None:
    assert clean_database

    def break_off() -> None:
        with db.transaction() as session:
            write(session, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with db.read() as session:
        assert subjects(session) == []


@pytest.mark.parametrize(
    "change",
    [
        update(AuditEntry).values(actor="nobody"),
        delete(AuditEntry),
        delete(AuditEntry).where(AuditEntry.subject == "none there"),
        text("UPDATE audit_entries SET at = now() - interval '1 year'"),
        text(
            "INSERT INTO audit_entries SELECT * FROM audit_entries ON CONFLICT (id) DO UPDATE SET actor = 'x'"
        ),
    ],
)
def test_the_database_itself_refuses_to_change_it(clean_database: str, change: object) -> None:
    assert clean_database
    with db.transaction() as session:
        write(session, 1)
    with pytest.raises(DBAPIError, match="rows are only ever added"), db.transaction() as session:
        session.execute(change)  # type: ignore[call-overload]
    with db.read() as session:
        assert subjects(session) == ["1"]


def test_everybody_sees_what_is_about_theirs(session: Session) -> None:
    for n, owner in enumerate(["newsroom", "stranger", None, "newsroom"]):
        write(session, n, owner)
    assert sorted(subjects(session)) == ["0", "3"]


def test_pages_follow_each_other_without_gap_or_overlap(session: Session) -> None:
    for n in range(7):
        write(session, n)  # all in one transaction, so at the same moment
    seen, cursor = [], None
    while True:
        page = audit.page(session, "newsroom", filters=Filters(), cursor=cursor, limit=3)
        seen.append([entry.subject for entry in page.items])
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


def test_filters_choose(session: Session) -> None:
    write(session, 1, action=Action.HOLD_SET)
    write(session, 2, action=Action.HOLD_RELEASED)
    now = session.scalars(select(AuditEntry.at)).first()
    assert now is not None
    assert subjects(session, action="hold.released") == ["2"]
    assert subjects(session, subject="1") == ["1"]
    assert subjects(session, after=now) == ["2", "1"]
    assert subjects(session, before=now) == []
    assert subjects(session, after=now + timedelta(seconds=1)) == []


def test_a_cursor_is_of_no_use_beside_its_query(session: Session) -> None:
    for n in range(3):
        write(session, n)
    cursor = audit.page(session, "newsroom", filters=Filters(), limit=1).next_cursor
    assert cursor is not None
    with pytest.raises(InvalidCursor):
        audit.page(session, "stranger", filters=Filters(), cursor=cursor)
    with pytest.raises(InvalidCursor):
        audit.page(session, "newsroom", filters=Filters(subject="1"), cursor=cursor)


def test_the_latest_of_a_kind_is_found(session: Session) -> None:
    write(session, 1)
    write(session, 1, action=Action.HOLD_RELEASED)
    write(session, 2)
    found = audit.find(session, action=Action.HOLD_SET, subject="1")
    assert found is not None
    assert (found.action, found.subject) == ("hold.set", "1")
    assert audit.find(session, action=Action.KEY_REVOKED, subject="1") is None


def test_keys_are_logged_when_they_are_made_and_revoked(session: Session) -> None:
    expires = datetime.now(UTC) + timedelta(days=1)
    row, presented = keys.create(
        session, name="desk", owner="newsroom", scopes=[keys.Scope.STATS], expires_at=expires
    )
    keys.revoke(session, row.prefix)
    keys.revoke(session, row.prefix)
    revoked, created = audit.page(session, "newsroom", filters=Filters()).items
    assert (created.action, created.actor, created.subject) == ("key.created", "command line", row.prefix)
    assert created.detail == {"name": "desk", "scopes": ["stats"], "expires_at": expires.isoformat()}
    assert (revoked.action, revoked.actor, revoked.detail) == ("key.revoked", "command line", {})
    secret = presented.split("_")[2]
    assert secret not in str([created.detail, revoked.detail]), "a log is no place for keys"
