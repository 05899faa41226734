"""The chord counter in Redis, without the parts of a result backend that nobody reads."""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend


class ChordCounter(RedisBackend):  # type: ignore[misc]  # Celery ships no types
    """Counts chord headers; never subscribes to results.

    Celery subscribes the publisher to every task it sends. The dispatcher publishes for months and
    reads no result, so that would be one leaked subscription a step, and a publish that hangs for
    minutes while Redis is frozen.
    """

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:  # noqa: ARG002 - Celery's signature
        """Subscribe to nothing."""
        return {}

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002 - Celery's signature
        """Wait for nothing: nobody asks for the result."""
        return result
