"""The whole canvas on one screen: what is sent to Celery, and in what shape.

    extract ──> chord( video..., audio... ) ──> fuse [ ──> stability... ──> fuse ]

What is in brackets, where it was asked for, goes out step by step: nobody waits for it at a screen, and the
dispatcher rings for the second fusion as soon as the last variant is closed.

The chord is the fast path and the barrier that Flower shows. Its arguments are ids, its results are
never read: every task looks in Postgres whether the work is its to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from celery import chord
from celery.canvas import Signature
from celery.signals import after_task_publish

from core import failpoints
from core.domain import BRANCHES, Lane, Stage
from core.models import Step
from core.queue import QUEUE_OF_TASK, TASK_OF_STAGE, lane_of, name_of
from workers.app import app

#: Task ids are derived from (step, attempt): a message sent twice is recognisable as such.
TASK_NAMESPACE = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")


#: Header of every message, for people and debuggers; what decides is the row.
FORMAT_HEADER = "deepdefend_format"


def message(step: Step, lane: Lane) -> Signature:
    """The message for one step: ids only."""
    name = TASK_OF_STAGE[Stage(step.stage)]
    return app.signature(
        name.value,
        args=(str(step.analysis_id), step.shard),
        immutable=True,  # a chord body must not be given the header's results
        queue=queue_of(step.stage, lane),
        task_id=str(uuid5(TASK_NAMESPACE, f"{step.id}:{step.attempt}")),
        headers={FORMAT_HEADER: step.format},
    )


def queue_of(stage: str, lane: Lane) -> str:
    """Name of the Celery queue that steps of that stage wait in, of an analysis in that lane."""
    return name_of(QUEUE_OF_TASK[TASK_OF_STAGE[Stage(stage)]], lane_of(Stage(stage), lane))


def send(step: Step, lane: Lane) -> None:
    """Ring for one step. Raises kombu.exceptions.OperationalError when the broker is away."""
    message(step, lane).apply_async(retry=False)


def send_chord(branches: Sequence[Step], fusion: Step, lane: Lane) -> None:
    """Ring for all branches of an analysis, and for its fusion once they have returned."""
    chord([message(step, lane) for step in branches])(message(fusion, lane), retry=False)


@after_task_publish.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _one_is_sent(sender: str, **_: Any) -> None:
    """Between two messages of a chord there is no line of ours to die at but this."""
    if sender in {TASK_OF_STAGE[branch] for branch in BRANCHES}:
        failpoints.reach(failpoints.Point.DISPATCHER_HEADER)


def waiting(queue: str) -> int:
    """Messages in a queue, by its name, that no worker has taken."""
    with app.connection_for_read() as connection:
        # Not `passive`: its existence check does not know of the key prefix (kombu 5.7).
        declared = connection.default_channel.queue_declare(queue=queue)
    return int(declared.message_count)
