"""A worker of any kind and lane that is asked to end hands back what it has in hand, unused."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from celery import Celery

from core import analyses, db, fleet, steps
from core.config import settings
from core.domain import Lane, Stage, Terms
from core.models import Step
from core.queue import Queue, name_of
from tests.checkpoints import make_image_checkpoint
from tests.cli.stack.patience import eventually
from tests.core.factories import build_manifest, claim_step, create_analysis, extract
from tests.workers.running import command, worker
from workers import dispatcher

STAGE_OF_QUEUE = {
    Queue.EXTRACTION: Stage.EXTRACT,
    Queue.VIDEO: Stage.VIDEO,
    Queue.AUDIO: Stage.AUDIO,
    Queue.FUSION: Stage.FUSE,
}
CASES = [
    (Queue.EXTRACTION, Lane.BATCH),
    (Queue.VIDEO, Lane.INTERACTIVE),
    (Queue.AUDIO, Lane.STANDARD),
    (Queue.FUSION, Lane.INTERACTIVE),
]


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address where calls are taken and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def owed(stage: Stage, lane: Lane) -> UUID:
    """An analysis whose next step is of that stage."""
    with db.transaction() as session:
        analysis = create_analysis(session, terms=Terms(lane=lane))
        if stage is not Stage.EXTRACT:
            scored = stage is not Stage.FUSE
            extract(session, analysis, build_manifest(faces=scored, sound=scored))
    return analysis.id


def step(identity: UUID, stage: Stage) -> Step:
    with db.read() as session:
        return next(row for row in steps.of_analysis(session, identity) if row.stage == stage.value)


@pytest.mark.parametrize(("queue", "urgency"), CASES)
def test_a_worker_that_is_asked_to_end_hands_its_step_back(
    ringing: Celery,
    deaf: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    queue: Queue,
    urgency: Lane,
) -> None:
    """Whoever asks the deaf address, as storage or as language model, is busy for a minute."""
    assert ringing
    stage = STAGE_OF_QUEUE[queue]
    identity = owed(stage, urgency)
    monkeypatch.setenv("DEEPDEFEND_S3__ENDPOINT_URL", deaf)
    monkeypatch.setenv("DEEPDEFEND_NARRATOR__BASE_URL", deaf)
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    monkeypatch.setenv("DEEPDEFEND_ALLOW_TEST_DETECTORS", "1")
    monkeypatch.setenv("DEEPDEFEND_MODELS__VIDEO", str(make_image_checkpoint(tmp_path / "vit")))
    dispatcher.sweep()
    with worker(tmp_path / "log", command(queue, lanes=[urgency])) as process:
        eventually(lambda: step(identity, stage).status == "running", 120)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: step(identity, stage).status == "pending", settings().steps.lease.seconds - 5)
    found = step(identity, stage)
    assert (found.attempt, found.lease_owner, found.published_at) == (0, None, None)
    with db.transaction() as session:
        claim_step(session, identity, stage, owner="another")


def test_a_worker_for_one_lane_takes_nothing_of_another(ringing: Celery, bucket: str, tmp_path: Path) -> None:
    assert ringing
    assert bucket
    batch, urgent = owed(Stage.FUSE, Lane.BATCH), owed(Stage.FUSE, Lane.INTERACTIVE)
    dispatcher.sweep()

    def ended(identity: UUID) -> Callable[[], bool]:
        def look() -> bool:
            with db.read() as session:
                return analyses.load(session, identity).status == "completed"

        return look

    with worker(tmp_path / "urgent", command(Queue.FUSION, lanes=[Lane.INTERACTIVE])):
        eventually(ended(urgent), 120)
        with db.read() as session:
            assert [row.queues for row in fleet.live(session)] == [[name_of(Queue.FUSION, Lane.INTERACTIVE)]]
        assert step(batch, Stage.FUSE).status == "pending"
    with worker(tmp_path / "batch", command(Queue.FUSION, lanes=[Lane.BATCH])):
        eventually(ended(batch), 120)


@pytest.mark.parametrize("queue", [Queue.EXTRACTION, Queue.FUSION])
def test_an_idle_worker_of_either_pool_ends_in_order(ringing: Celery, tmp_path: Path, queue: Queue) -> None:
    assert ringing
    with worker(tmp_path / "log", command(queue)) as process:
        eventually(lambda: _known(queue), 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == os.EX_OK
    assert not _known(queue), "it said goodbye"


def _known(queue: Queue) -> bool:
    with db.read() as session:
        return any(queue.value in row.queues for row in fleet.live(session))
