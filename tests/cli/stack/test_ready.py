"""What a stack asks of its database and its ports."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli.stack import ready
from core import db, fleet, keys
from core.queue import Queue, names_of


def announce(boot_id: str, *queues: Queue) -> None:
    with db.transaction() as session:
        fleet.announce(session, boot_id=boot_id, queues=list(names_of(queues)), version="1")


def test_the_first_key_is_made_once_and_stored_private(clean_database: str, tmp_path: Path) -> None:
    assert clean_database
    path = tmp_path / "api_key"
    key, new = ready.first_key(path)
    assert new
    assert path.read_text() == key + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ready.first_key(path) == (key, False)


@pytest.mark.parametrize("damage", ["", "dd_nonsense", "dd_12345678_" + "x" * 38])
def test_a_stored_key_that_does_not_work_is_replaced(
    clean_database: str, tmp_path: Path, damage: str
) -> None:
    assert clean_database
    path = tmp_path / "api_key"
    path.write_text(damage)
    key, new = ready.first_key(path)
    assert new
    with db.transaction() as session:
        assert keys.authenticate(session, key)


def test_a_stored_key_that_was_revoked_is_replaced(clean_database: str, tmp_path: Path) -> None:
    assert clean_database
    path = tmp_path / "api_key"
    first, _ = ready.first_key(path)
    with db.transaction() as session:
        keys.revoke(session, first.split("_")[1])
    second, new = ready.first_key(path)
    assert new
    assert second != first


def test_queues_are_missing_until_a_live_worker_listens(clean_database: str) -> None:
    assert clean_database
    assert ready.missing_queues() == set(names_of())
    announce("a", Queue.VIDEO)
    announce("b", Queue.FUSION, Queue.WEBHOOKS)
    assert ready.missing_queues() == set(names_of([Queue.EXTRACTION, Queue.AUDIO]))


def test_workers_of_the_last_run_do_not_count(clean_database: str) -> None:
    assert clean_database
    announce("a", *Queue)
    assert not ready.missing_queues()
    ready.build_schema()
    assert ready.missing_queues() == set(names_of())


def test_a_server_that_does_not_answer_is_not_ready() -> None:
    assert not ready.answers("127.0.0.1", 1, "/readyz")
    assert not ready.answers("no.such.host.invalid", 80, "/")


@pytest.mark.parametrize(
    ("bound", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1"), ("192.0.2.1", "192.0.2.1")],  # noqa: S104
)
def test_a_wildcard_address_is_asked_on_the_loopback(bound: str, asked: str) -> None:
    assert ready.reachable(bound) == asked
