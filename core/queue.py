"""Names of queues and tasks. The api and the workers meet only here.

A kind of work has a Celery queue for each lane, so that a thousand files of one lane stand in nobody
else's way. The standard lane keeps the bare name: `extraction`, beside `extraction.interactive` and
`extraction.batch`, so that messages of a version without lanes are still read.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from core.domain import Lane, Stage


class Queue(StrEnum):
    """A kind of work; one worker service does each."""

    EXTRACTION = "extraction"
    VIDEO = "video"
    AUDIO = "audio"
    FUSION = "fusion"
    WEBHOOKS = "webhooks"


class Task(StrEnum):
    """A Celery task name. Identity lives in these strings, not in module paths."""

    EXTRACT = "deepdefend.extract"
    VIDEO = "deepdefend.video"
    AUDIO = "deepdefend.audio"
    STABILITY = "deepdefend.stability"
    FUSE = "deepdefend.fuse"
    DELIVER = "deepdefend.deliver"


TASK_OF_STAGE: Final[dict[Stage, Task]] = {
    Stage.EXTRACT: Task.EXTRACT,
    Stage.VIDEO: Task.VIDEO,
    Stage.AUDIO: Task.AUDIO,
    Stage.STABILITY: Task.STABILITY,
    Stage.FUSE: Task.FUSE,
}
QUEUE_OF_TASK: Final[dict[Task, Queue]] = {
    Task.EXTRACT: Queue.EXTRACTION,
    Task.VIDEO: Queue.VIDEO,
    Task.AUDIO: Queue.AUDIO,
    Task.STABILITY: Queue.VIDEO,
    Task.FUSE: Queue.FUSION,
    Task.DELIVER: Queue.WEBHOOKS,
}

#: Kinds of work that every lane has a queue of its own for. Webhooks have deadlines, not lanes.
LANED: Final = frozenset({Queue.EXTRACTION, Queue.VIDEO, Queue.AUDIO, Queue.FUSION})
#: What nobody waits for at a screen goes behind everything else, whatever the lane of its analysis.
LANE_OF_STAGE: Final = {Stage.STABILITY: Lane.BATCH}
_SEPARATOR: Final = "."


def lane_of(stage: Stage, lane: Lane) -> Lane:
    """The lane that a step of an analysis in `lane` waits in."""
    return LANE_OF_STAGE.get(stage, lane)


def stages_of(queue: Queue) -> tuple[Stage, ...]:
    """The stages whose steps wait in the queues of that kind of work."""
    return tuple(stage for stage, task in TASK_OF_STAGE.items() if QUEUE_OF_TASK[task] is queue)


def name_of(queue: Queue, lane: Lane = Lane.STANDARD) -> str:
    """The Celery queue of a kind of work in a lane."""
    bare = lane is Lane.STANDARD or queue not in LANED
    return queue.value if bare else f"{queue.value}{_SEPARATOR}{lane.value}"


def names_of(queues: Iterable[Queue] = Queue, lanes: Iterable[Lane] = Lane) -> tuple[str, ...]:
    """The Celery queues of these kinds of work in these lanes, each once, the most urgent lane first."""
    wanted = sorted(lanes, key=list(Lane).index)
    return tuple(dict.fromkeys(name_of(queue, lane) for queue in queues for lane in wanted))


def parse(name: str) -> tuple[Queue, Lane]:
    """What a Celery queue is for; webhooks count as standard. Raises ValueError for a name not of ours."""
    queue, _, lane = name.partition(_SEPARATOR)
    found = Queue(queue), Lane(lane) if lane else Lane.STANDARD
    if name_of(*found) != name:
        raise ValueError(f"{name!r} is not a queue")
    return found
