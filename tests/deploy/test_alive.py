from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, update

from core import db, fleet
from core.db import transaction
from core.models import WorkerProcess
from deploy import alive
from workers.dispatcher import DISPATCHER_LOCK


def announce(boot_id: str, *queues: str) -> None:
    with transaction() as session:
        fleet.announce(session, boot_id=boot_id, queues=queues, version="1")


@pytest.mark.usefixtures("clean_database")
def test_a_queue_is_served_while_its_worker_beats(capsys: pytest.CaptureFixture[str]) -> None:
    assert alive.main(["video"]) == 1
    assert "nobody serves: video" in capsys.readouterr().err
    announce("one", "video")
    assert alive.main(["video"]) == 0


@pytest.mark.usefixtures("clean_database")
def test_every_named_queue_must_be_served() -> None:
    announce("one", "fusion")
    assert alive.main(["fusion", "webhooks"]) == 1
    announce("one", "fusion", "webhooks")
    assert alive.main(["fusion", "webhooks"]) == 0


@pytest.mark.usefixtures("clean_database")
def test_a_worker_that_stopped_beating_serves_nothing() -> None:
    announce("one", "audio")
    with transaction() as session:
        session.execute(update(WorkerProcess).values(seen_at=func.now() - timedelta(minutes=1)))
    assert alive.main(["audio"]) == 1


@pytest.mark.usefixtures("clean_database")
def test_the_dispatcher_lives_while_it_holds_its_lock() -> None:
    assert alive.main(["dispatcher"]) == 1
    held = db.lock_connection(DISPATCHER_LOCK)
    try:
        assert alive.main(["dispatcher"]) == 0
        with held.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", (DISPATCHER_LOCK,))
        assert alive.main(["dispatcher"]) == 1
    finally:
        held.close()


@pytest.mark.usefixtures("clean_database")
def test_another_lock_is_not_the_dispatchers() -> None:
    held = db.lock_connection(DISPATCHER_LOCK + 1)
    try:
        assert alive.main(["dispatcher"]) == 1
    finally:
        held.close()


def test_nothing_named_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert alive.main([]) == 2
    assert "Usage" in capsys.readouterr().err


def test_a_database_that_does_not_answer_is_not_health(tmp_path: Path) -> None:
    nowhere = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "DEEPDEFEND_DATABASE_URL": "postgresql://nobody:hidden@127.0.0.1:1/none",
        "DEEPDEFEND_BROKER_URL": "redis://127.0.0.1:1/0",
        "DEEPDEFEND_SECRET_KEY": "x" * 32,
    }
    command = [sys.executable, str(alive.__file__), "video"]
    done = subprocess.run(command, env=nowhere, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Postgres does not answer: OperationalError\n"
