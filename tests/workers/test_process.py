"""A worker process: it always has a heart, and when it is asked to end it hands back what it holds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from celery import Celery

from cli.stack import commands
from core import analyses, db, fleet, steps
from core.config import settings
from core.domain import Stage
from core.models import Step
from core.queue import Queue, names_of
from tests.cli.stack.patience import eventually
from tests.conftest import point_settings
from tests.core.factories import create_analysis
from workers import dispatcher, process
from workers.process import WorkerState, this_process


@pytest.fixture
def state(clean_database: str) -> Iterator[WorkerState]:
    assert clean_database
    made = WorkerState()
    yield made
    made.heart.stop()
    made.heart.join(30)


def known(state: WorkerState) -> bool:
    with db.read() as session:
        return state.boot_id in [row.boot_id for row in fleet.live(session)]


def test_a_process_that_starts_without_a_database_still_has_a_heart(state: WorkerState) -> None:
    url = os.environ["DEEPDEFEND_DATABASE_URL"]
    point_settings(DEEPDEFEND_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    db.engine.cache_clear()
    try:
        state.start()
        assert state.heart.is_alive()
    finally:
        point_settings(DEEPDEFEND_DATABASE_URL=url)
        db.engine.cache_clear()
    state.heart._wake.set()
    eventually(lambda: known(state))


def test_a_process_says_hello_and_goodbye(state: WorkerState) -> None:
    state.start()
    eventually(lambda: known(state))
    state.stop()
    assert not known(state)


def test_a_worker_of_threads_lets_go_itself(clean_database: str) -> None:
    assert clean_database
    this_process.cache_clear()
    process._let_go()
    assert this_process.cache_info().currsize == 0  # nothing is made only to be ended
    assert not this_process().heart.leaving
    process._let_go()
    assert this_process().heart.leaving
    this_process.cache_clear()


@contextmanager
def silent_storage() -> Iterator[None]:
    """A storage that takes requests and never answers: whoever downloads is busy for a minute."""
    before = os.environ["DEEPDEFEND_S3__ENDPOINT_URL"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        point_settings(DEEPDEFEND_S3__ENDPOINT_URL=f"http://127.0.0.1:{server.getsockname()[1]}")
        yield
        point_settings(DEEPDEFEND_S3__ENDPOINT_URL=before)


def extraction(analysis_id: UUID) -> Step:
    with db.read() as session:
        return steps.of_analysis(session, analysis_id)[0]


def test_a_worker_asked_to_end_hands_its_step_back_unused(ringing: Celery, tmp_path: Path) -> None:
    assert ringing
    with db.transaction() as session:
        identity = create_analysis(session).id
    dispatcher.sweep()
    command = commands.worker([Queue.EXTRACTION])
    with (
        silent_storage(),
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, process_group=0) as worker,
    ):
        try:
            eventually(lambda: extraction(identity).status == "running", 90)
            version = _version(identity)
            worker.send_signal(signal.SIGTERM)
            eventually(lambda: extraction(identity).status == "pending", settings().steps.lease.seconds - 5)
        finally:
            os.killpg(worker.pid, signal.SIGKILL)
    step = extraction(identity)
    assert (step.attempt, step.lease_owner, step.published_at) == (0, None, None)
    assert _version(identity) > version
    assert sys.executable in command
    dispatcher.sweep()
    assert extraction(identity).published_at is not None
    assert step.stage == Stage.EXTRACT.value


def _version(analysis_id: UUID) -> int:
    with db.read() as session:
        return analyses.load(session, analysis_id).version


@pytest.mark.parametrize(("chosen", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_children_learn_their_queues_and_do_not_spin_unless_a_person_says_so(
    ringing: Celery, monkeypatch: pytest.MonkeyPatch, chosen: str | None, expected: str
) -> None:
    monkeypatch.setenv(process.QUEUES_VARIABLE, "")
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    process._remember_queues(instance=SimpleNamespace(app=ringing))
    assert set(os.environ[process.QUEUES_VARIABLE].split()) == set(names_of())
    assert os.environ["OMP_WAIT_POLICY"] == expected
