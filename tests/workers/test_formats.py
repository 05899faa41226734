"""Old and new versions side by side: nobody takes what he cannot read, and nothing is lost by it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from celery import Celery
from sqlalchemy import update

from core import analyses, db, outbox, steps
from core.config import settings
from core.domain import Lane, Stage
from core.models import Step
from core.queue import Queue
from tests.cli.stack.patience import eventually
from tests.core.factories import build_manifest, claim_step, create_analysis, expire_leases, extract
from tests.workers.running import command, worker
from tests.workers.test_dispatcher import messages, waiting
from workers import dispatcher, pipeline

NEWER = steps.FORMAT + 1


def fusion_owed(step_format: int = steps.FORMAT) -> UUID:
    """An analysis that only fusion is left of, written by the version of that format."""
    with db.transaction() as session:
        analysis = create_analysis(session)
        extract(session, analysis, build_manifest(faces=False, sound=False))
        session.execute(
            update(Step)
            .where(Step.analysis_id == analysis.id, Step.stage == Stage.FUSE.value)
            .values(format=step_format)
        )
    return analysis.id


def fusion(identity: UUID) -> Step:
    with db.read() as session:
        return next(s for s in steps.of_analysis(session, identity) if s.stage == Stage.FUSE.value)


def completed(identity: UUID) -> bool:
    with db.read() as session:
        return analyses.load(session, identity).status == "completed"


def ring(identity: UUID) -> None:
    """A message that a dispatcher of another version, or a person, has sent."""
    pipeline.send(fusion(identity), Lane.STANDARD)


def push(*raw: str) -> None:
    """Into the queue as it is, the first to be taken first."""
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        for one in raw:
            client.lpush("deepdefend:fusion", one)


def test_steps_are_written_in_the_format_of_this_version(clean_database: str) -> None:
    assert clean_database
    assert fusion(fusion_owed()).format == steps.FORMAT


def test_a_newer_step_is_neither_claimed_nor_published_nor_requeued(ringing: Celery) -> None:
    assert ringing
    identity = fusion_owed(NEWER)
    with db.transaction() as session:
        claim = steps.claim(
            session, analysis_id=identity, stage=Stage.FUSE, shard=0, owner="old", config=settings().steps
        )
        assert claim is None
        assert outbox.waiting_fusion(session, identity) is None
    dispatcher.sweep()
    assert waiting() == {}
    assert (fusion(identity).status, fusion(identity).attempt) == ("pending", 0)


def test_an_old_dispatcher_leaves_the_lost_step_of_a_new_worker(
    ringing: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ringing
    identity = fusion_owed()
    with db.transaction() as session:
        claim_step(session, identity, Stage.FUSE)
        expire_leases(session)
    monkeypatch.setattr(steps, "FORMAT", steps.FORMAT - 1)
    dispatcher.sweep()
    assert fusion(identity).status == "running"
    monkeypatch.undo()
    dispatcher.sweep()
    assert (fusion(identity).status, waiting()) == ("pending", {"fusion": 1})


def test_an_old_worker_leaves_newer_steps_to_a_new_one(ringing: Celery, bucket: str, tmp_path: Path) -> None:
    assert ringing
    assert bucket
    new, old = fusion_owed(), fusion_owed(steps.FORMAT - 1)
    ring(new)
    ring(old)
    with worker(tmp_path / "old.log", command(Queue.FUSION, reads=steps.FORMAT - 1)):
        eventually(lambda: completed(old), 90)  # one place: what came before it has been looked at
    assert (fusion(new).status, fusion(new).attempt, waiting()) == ("pending", 0, {})
    with worker(tmp_path / "new.log", command(Queue.FUSION)):
        dispatcher.sweep()
        eventually(lambda: completed(new), 90)
    assert fusion(new).attempt == 1


def foreign(identity: UUID, **changes: Any) -> str:
    """A message of ours with other headers or another body."""
    ring(identity)
    with redis.Redis.from_url(settings().broker_url.get_secret_value()) as client:
        message: dict[str, Any] = json.loads(str(client.lpop("deepdefend:fusion"), "utf-8"))
    message["headers"] |= {"id": str(uuid4())} | changes.pop("headers", {})
    return json.dumps(message | changes)


def with_arguments(identity: UUID, *args: Any, **kwargs: Any) -> str:
    body = json.dumps([args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return foreign(
        identity,
        body=body,
        properties=json.loads(foreign(identity))["properties"] | {"body_encoding": "utf-8"},
    )


def test_messages_of_unknown_shape_neither_end_a_worker_nor_lose_a_step(
    ringing: Celery, bucket: str, tmp_path: Path
) -> None:
    assert ringing
    assert bucket
    identity, last = fusion_owed(), fusion_owed()
    text = str(identity)
    hostile = [
        with_arguments(identity, text, 0, "one too many"),
        with_arguments(identity, text, 0, unexpected=True),
        with_arguments(identity, text),
        with_arguments(identity),
        with_arguments(identity, "no uuid", 0),
        with_arguments(identity, {"id": text}, 0),
        with_arguments(identity, text, "0; DROP TABLE steps"),
        with_arguments(identity, text, 2**40),
        with_arguments(identity, str(uuid4()), 0),
        foreign(identity, headers={"task": "os.system"}),
        foreign(
            identity,
            headers={pipeline.FORMAT_HEADER: "newer"},
            **{"content-type": "application/x-python-serialize"},
        ),
        foreign(identity, body=base64.b64encode(b"no JSON").decode()),
        foreign(identity, body=base64.b64encode(b'{"neither": "args"}').decode()),
        foreign(identity, body=base64.b64encode(b"[[], {}]").decode()),
        foreign(identity, body=base64.b64encode(b"null").decode()),
        foreign(identity, headers={"timelimit": "soon"}),
        foreign(identity, headers={"eta": "soon"}),
        foreign(identity, headers={"id": None}),
        foreign(identity, headers={"id": {"a": "b"}}),
    ]
    push(*hostile)
    ring(last)
    with worker(tmp_path / "log", command(Queue.FUSION)) as process:
        eventually(lambda: completed(last), 90)
        assert process.poll() is None
        assert (fusion(identity).status, fusion(identity).attempt) == ("pending", 0)
        assert messages("fusion") == []
        dispatcher.sweep()
        eventually(lambda: completed(identity), 90)
    assert fusion(identity).attempt == 1
