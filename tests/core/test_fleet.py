"""Who lives, who has gone."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import fleet


def age(session: Session, seconds: int) -> None:
    session.execute(
        text("UPDATE worker_processes SET seen_at = seen_at - make_interval(secs => :s)"), {"s": seconds}
    )


def announce(session: Session, boot_id: str = "a1", **values: object) -> None:
    arguments = {"queues": ["video"], "version": "0.1.0"} | values
    fleet.announce(session, boot_id=boot_id, **arguments)  # type: ignore[arg-type]


def test_an_announced_process_lives_until_it_falls_silent(session: Session) -> None:
    announce(session, detectors=[{"id": "d", "state": "available"}])
    live = fleet.live(session)
    assert [(row.boot_id, row.queues, row.detectors[0]["id"]) for row in live] == [("a1", ["video"], "d")]
    age(session, 30)
    assert len(fleet.live(session)) == 1
    age(session, 10)
    assert fleet.live(session) == []


def test_a_beat_keeps_it_alive(session: Session) -> None:
    announce(session)
    age(session, 60)
    assert fleet.beat(session, "a1")
    session.expire_all()
    assert len(fleet.live(session)) == 1
    assert not fleet.beat(session, "stranger")


def test_a_second_announcement_replaces_the_first(session: Session) -> None:
    announce(session)
    announce(session, sandbox="bubblewrap", queues=["extraction"])
    session.expire_all()
    assert [(row.queues, row.sandbox) for row in fleet.live(session)] == [(["extraction"], "bubblewrap")]


def test_who_leaves_is_gone_at_once(session: Session) -> None:
    announce(session)
    announce(session, "b2")
    fleet.leave(session, "a1")
    assert [row.boot_id for row in fleet.live(session)] == ["b2"]


def test_the_long_dead_are_forgotten(session: Session) -> None:
    announce(session, "old")
    age(session, 3700)
    announce(session, "new")
    fleet.prune(session)
    left = session.execute(text("SELECT boot_id FROM worker_processes")).scalars().all()
    assert left == ["new"]
