"""The dispatcher's part in webhooks: publish what is due, heal what a dead process was sending, forget.

In its own transactions, after the steps: what goes wrong with webhooks holds up no analysis.
"""

from __future__ import annotations

from uuid import uuid5

from celery.canvas import Signature

from core import failpoints, logging
from core.config import settings
from core.db import read, transaction
from core.models import WebhookDelivery
from core.queue import Queue, Task, name_of
from core.webhooks import deliveries, endpoints, outbox
from workers import pipeline
from workers.app import app

log = logging.get(__name__)
#: Deliveries that one round publishes.
SOME = 100


def sweep() -> bool:
    """One round; True when there may be more to publish. Raises what a dead broker raises."""
    with transaction() as session:
        for delivery_id in deliveries.requeue_lost(session):
            log.warning("a sender was lost", action="delivery_lost", delivery_id=str(delivery_id))
        deliveries.prune(session)
        endpoints.forget_former_secrets(session)
    _take_back_lost()
    return _publish_due()


def message(delivery: WebhookDelivery) -> Signature:
    """The message for one delivery: its id only."""
    return app.signature(
        Task.DELIVER.value,
        args=(str(delivery.id),),
        queue=name_of(Queue.WEBHOOKS),
        task_id=str(uuid5(pipeline.TASK_NAMESPACE, f"{delivery.id}:{delivery.attempt}")),
    )


def _publish_due() -> bool:
    """A crash between the messages and the mark sends some twice, which the claim absorbs."""
    with read() as session:
        due = outbox.due(session, SOME)
    for delivery in due:
        message(delivery).apply_async(retry=False)
        failpoints.reach(failpoints.Point.DISPATCHER_TOLD)
    if due:
        with transaction() as session:
            outbox.mark_published(session, due)
    return len(due) == SOME


def _take_back_lost() -> None:
    """Owe again what was published long ago and is neither claimed nor waiting in the queue."""
    config = settings().steps
    with read() as session:
        count, stale = outbox.unclaimed(session, config)
    if not stale:
        return
    still_there = pipeline.waiting(name_of(Queue.WEBHOOKS)) >= count
    with transaction() as session:
        (outbox.postpone if still_there else outbox.take_back)(session, config)
