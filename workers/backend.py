"""The chord counter in Redis, without the parts of a result backend that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.backends.redis import RedisBackend
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from core import logging

log = logging.get(__name__)


class ChordCounter(RedisBackend):  # type: ignore[misc]  # Celery ships no types
    """Counts chord headers; never subscribes to results.

    Celery subscribes the publisher to every task it sends. The dispatcher publishes for months and
    reads no result, so that would be one leaked subscription a step, and a publish that hangs for
    minutes while Redis is frozen.
    """

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """Subscribe to nothing."""
        return {}

    def store_result(self, task_id: str, result: Any, state: str, **_: Any) -> Any:  # noqa: ARG002 - Celery's signature
        """Store nothing: the chord has a count of its own, and nobody asks for a result."""
        return result

    def mark_as_done(self, *arguments: Any, **named: Any) -> None:
        """Count a header as returned. A broker that is away must not reach the task's own process.

        What is raised here is raised outside the task's body: Celery then never gives its place back, and
        after as many of them as it has places the worker lives, beats, and takes nothing more. The count is
        not missed: what a silent chord owes is in Postgres, and the dispatcher rings for it.
        """
        with self._forgiven():
            super().mark_as_done(*arguments, **named)

    def mark_as_failure(self, *arguments: Any, **named: Any) -> None:
        """The same for a task that raised."""
        with self._forgiven():
            super().mark_as_failure(*arguments, **named)

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OperationalError, OSError) as error:
            log.warning("not counted in its chord", action="chord_not_counted", error=str(error))

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """Wait for nothing: nobody asks for the result."""
        return result
