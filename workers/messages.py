"""Messages that this version cannot read are refused, and their worker goes on.

Celery 5.7 ends the worker over a message whose body or headers have another shape than its own, and puts
the message back: the next worker ends as well, and so on. Nothing is lost by refusing one, since the step
is still owed in Postgres and is published again. (What is not even a message, such as a value that is no
JSON, ends a worker once, before any code of ours: only somebody with the broker's password can send it.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import InvalidTaskError
from celery.worker import state, strategy

Handler = Callable[..., Any]


class OurTask(Task):  # type: ignore[misc]  # Celery ships no types
    """The base of our tasks: `app` makes it so."""

    Strategy = "workers.messages:refusing"


def refusing(task: Any, app: Any, consumer: Any, **rest: Any) -> Handler:
    """Celery's own way to take a message, with every complaint over its shape as the one that it survives."""
    take = strategy.default(task, app, consumer, **rest)

    def take_or_refuse(message: Any, body: Any, *how: Any, **more: Any) -> Any:
        if not isinstance(message.headers.get("id"), str):
            raise InvalidTaskError("not a message of ours: it has no id")
        try:
            return take(message, body, *how, **more)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            _let_go(message)
            raise InvalidTaskError(f"not a message of ours: {type(error).__name__}: {error}") from error

    return take_or_refuse


def _let_go(message: Any) -> None:
    """Free the place that it had already been given: a worker with one place would take nothing more."""
    for request in [known for known in state.reserved_requests if known.message is message]:
        state.task_ready(request)
