"""Names of queues and tasks. The api and the workers meet only here."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from core.domain import Stage


class Queue(StrEnum):
    """A Celery queue; one worker service listens to each."""

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
    FUSE = "deepdefend.fuse"


TASK_OF_STAGE: Final[dict[Stage, Task]] = {
    Stage.EXTRACT: Task.EXTRACT,
    Stage.VIDEO: Task.VIDEO,
    Stage.AUDIO: Task.AUDIO,
    Stage.FUSE: Task.FUSE,
}
QUEUE_OF_TASK: Final[dict[Task, Queue]] = {
    Task.EXTRACT: Queue.EXTRACTION,
    Task.VIDEO: Queue.VIDEO,
    Task.AUDIO: Queue.AUDIO,
    Task.FUSE: Queue.FUSION,
}
