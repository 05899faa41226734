"""The dispatcher: publishes what Postgres says is owed, and heals what nobody finishes.

A process, not a task in the queues it heals. It sleeps on LISTEN and wakes at least once a poll; one
holds the advisory lock, any others wait to take over.
"""

from __future__ import annotations

import select
import signal
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg2
from kombu.exceptions import OperationalError as BrokerDown
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from core import analyses, db, failpoints, fleet, idempotency, logging, outbox, stability, steps
from core.config import settings
from core.db import read, transaction
from core.domain import BRANCHES, Lane, Stage
from core.errors import DeepDefendError
from core.models import Step
from core.queue import lane_of
from workers import courier, housekeeping, pipeline

log = logging.get(__name__)
#: Any constant will do: it names "the dispatcher" among this database's advisory locks.
DISPATCHER_LOCK = 0x0DD_0002
#: Analyses that one round ends for being late, and steps that it publishes: then it looks again, at what is
#: urgent and at what has to end. After a long outage a whole day's work may be late at once.
SOME = 50
#: Kombu wraps most of what a dead broker raises, redis-py's own errors reach us from the chord counter.
BROKER_ERRORS = (BrokerDown, RedisError, ConnectionError, TimeoutError)


def sweep() -> bool:
    """One round: end, heal, publish; True when there may be more to publish.

    Each part commits on its own, so that one does not hold up another.
    """
    late = DeepDefendError("not done before its deadline", code="deadline_exceeded")
    with read() as session:
        overdue = analyses.overdue(session, SOME)
    _end([(analysis_id, late) for analysis_id in overdue])
    _hurry()
    with transaction() as session:
        requeued = steps.requeue_expired(session, settings().steps)
        for analysis_id in requeued:
            log.warning("a worker was lost", action="lease_expired", analysis_id=str(analysis_id))
        fleet.prune(session)
        idempotency.prune(session)
        if requeued:
            failpoints.reach(failpoints.Point.DISPATCHER_REQUEUED)
    with read() as session:
        stuck = analyses.stuck(session)
    _end(stuck)
    more = publish_owed() or len(overdue) == SOME
    return courier.sweep() or more


def _end(failures: Sequence[tuple[UUID, DeepDefendError]]) -> None:
    """Each in its own transaction: none waits for the locks of another while holding its own."""
    for analysis_id, error in failures:
        with transaction() as session:
            ended = analyses.fail(session, analysis_id, error)
        if ended:
            log.warning(error.detail, action="ended", code=error.code, analysis_id=str(analysis_id))


def _hurry() -> None:
    """Let variants give way where the report would be late."""
    with read() as session:
        short = stability.short_of_time(session, SOME)
    for analysis_id in short:
        with transaction() as session:
            given = stability.give_way(session, analysis_id)
        if given:
            log.info("variants give way to the report", action="deadline_near", analysis_id=str(analysis_id))


def publish_owed() -> bool:
    """Publish some of what is owed, the most urgent lane first; True when there may be more.

    Stops at the first sign of a dead broker. No row is locked while it is asked: one that hangs must hold
    up no cancellation. A crash between the message and the mark sends it twice, which the claim absorbs.
    """
    _spare_waiting()
    with transaction() as session:
        owed = outbox.owed(session, settings().steps, SOME)
        lanes = outbox.lanes(session, {step.analysis_id for step in owed})
    if owed:
        failpoints.reach(failpoints.Point.DISPATCHER_READ)
    for analysis_id, due in _by_analysis(owed).items():
        _publish(analysis_id, lanes[analysis_id], due)
    return len(owed) == SOME


def _by_analysis(owed: Sequence[Step]) -> dict[UUID, list[Step]]:
    grouped: dict[UUID, list[Step]] = defaultdict(list)
    for step in owed:
        grouped[step.analysis_id].append(step)
    return grouped


def _publish(analysis_id: UUID, lane: Lane, due: list[Step]) -> None:
    """The first publication of all branches goes out as a chord; everything else step by step."""
    first_time = any(Stage(step.stage) in BRANCHES and step.published_at is None for step in due)
    fusion, branches = _chord_of(analysis_id) if first_time else (None, [])
    if fusion is not None:
        pipeline.send_chord(branches, fusion, lane)
        failpoints.reach(failpoints.Point.DISPATCHER_CHORD)
        _mark([*branches, fusion], lane)
        sent = {step.id for step in branches}
        due = [step for step in due if step.id not in sent]
    for step in due:
        pipeline.send(step, lane)
        failpoints.reach(failpoints.Point.DISPATCHER_SENT)
        _mark([step], lane)


def _chord_of(analysis_id: UUID) -> tuple[Step | None, list[Step]]:
    """Body and header of a chord to be, also branches beyond `SOME`; no body: it has been sent."""
    with transaction() as session:
        fusion = outbox.waiting_fusion(session, analysis_id)
        return fusion, outbox.waiting_branches(session, analysis_id) if fusion is not None else []


def _mark(published: Sequence[Step], lane: Lane) -> None:
    with transaction() as session:
        outbox.mark_published(session, [step.id for step in published])
    for step in published:
        log.info(
            "published",
            action="published",
            analysis_id=str(step.analysis_id),
            stage=step.stage,
            shard=step.shard,
            lane=lane_of(Stage(step.stage), lane).value,
        )


def _spare_waiting() -> None:
    """Leave stale steps alone whose messages are still queued: a long queue is not a lost message."""
    with read() as session:
        stale = outbox.stale(session, settings().steps)
    for stage, lane in stale:
        there = pipeline.waiting(pipeline.queue_of(stage, lane))
        with transaction() as session:
            if there >= outbox.unclaimed(session, stage, lane):
                outbox.postpone(session, settings().steps, stage, lane)


class Dispatcher:
    """The loop around `sweep`."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def stop(self, *_: Any) -> None:
        """Finish the round in hand and return from `run`."""
        self._stopping.set()

    def run(self) -> None:
        """Dispatch until stopped; a lost database or broker is waited for."""
        housekeeper = housekeeping.Housekeeper(self._stopping)
        housekeeper.start()
        while not self._stopping.is_set():
            try:
                self._lead()
            except (DBAPIError, psycopg2.Error):
                log.warning("the database is away", action="database_away", exc_info=True)
                self._stopping.wait(2)
        housekeeper.join(timeout=1)  # one that waits for the storage dies with the process

    def _lead(self) -> None:
        """Hold the lock and sweep until stopped, or until the connection that holds it breaks."""
        connection = db.lock_connection(DISPATCHER_LOCK)
        if connection is None:
            self._stopping.wait(5)  # another dispatcher works; take over when it dies
            return
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {steps.CHANNEL}")
            log.info("dispatching", action="dispatcher_leads")
            while not self._stopping.is_set():
                self._round(connection)
        finally:
            connection.close()

    def _round(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")  # raises when the lock's connection is gone: then we lead no more
        connection.notifies.clear()
        more = False
        try:
            more = sweep()
        except BROKER_ERRORS as error:
            log.warning("the broker is away", action="broker_away", error=str(error))
            self._stopping.wait(1)
        if not more and not connection.notifies:
            select.select([connection], [], [], settings().steps.poll.total_seconds())
            connection.poll()


def main() -> None:
    """Run a dispatcher until SIGTERM or SIGINT."""
    logging.configure(settings(), "dispatcher")
    dispatcher = Dispatcher()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, dispatcher.stop)
    dispatcher.run()


if __name__ == "__main__":
    main()
