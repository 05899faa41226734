"""In which order a worker with a free place asks its queues: kombu's `queue_order_strategy`.

The interactive lane first, then standard, then batch; kinds of work within a lane take turns. So that
a steady stream of the urgent does not stop the rest, a lane that was passed over often enough goes first
once: about one message in four for standard, one in eight for batch (`DEEPDEFEND_LANES__…`).

What follows, for one worker process with one place (`-c 1`), while interactive work waits:

- A lane that waits alone earns nothing: only messages of a more urgent lane count as passing it over.
  After 500 of batch in a row the next interactive message waits for the step in hand and no longer.
- Two turns out of order never follow each other: at worst it waits for the step in hand and one more.
- Standard gets at least one message in six, batch at least one in nine; while none of the three ever runs
  dry, 22 % and 12 % of all.

kombu 5.7 asks for the order with each BRPOP, and Celery sends one only while a place is free
(`worker_disable_prefetch`), so the order is never older than the last message taken. A BRPOP that found
all queues empty waits up to a second with its order, which then decides nothing: Valkey hands it
whichever message comes first. Only a message taken counts, not an empty answer. The counts live with
the channel: a new connection to the broker starts at nought, which costs a lane at most one turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.config import LaneSettings, settings
from core.domain import Lane
from core.queue import parse

#: Most urgent first.
URGENCY: Final = tuple(Lane)


class LaneOrder:
    """The order of one consumer's queues. kombu makes it without arguments and knows these three calls."""

    def __init__(self, config: LaneSettings | None = None) -> None:
        config = config or settings().lanes
        self._queues: list[str] = []
        #: Messages of more urgent lanes that a lane lets pass before its turn.
        self._patience = {Lane.STANDARD: config.standard_every - 1, Lane.BATCH: config.batch_every - 1}
        self._passed = dict.fromkeys(self._patience, 0)
        self._last_was_turn = False

    def update(self, queues: Iterable[str]) -> None:
        """Consume from these from now on; those known before keep their places."""
        wanted = list(queues)
        known = [queue for queue in self._queues if queue in wanted]
        self._queues = known + [queue for queue in wanted if queue not in known]

    def consume(self, _count: int) -> list[str]:
        """All queues, the one to be emptied first in front."""
        due = self._due()
        order = [*due, *(lane for lane in URGENCY if lane not in due)]
        return sorted(self._queues, key=lambda queue: order.index(_lane(queue)))

    def rotate(self, last_used: str) -> str:
        """A message of that queue was taken."""
        lane = _lane(last_used)
        self._last_was_turn = lane in self._due()
        for other in self._passed:
            if lane is other:
                self._passed[other] = 0
            elif URGENCY.index(lane) < URGENCY.index(other):
                self._passed[other] += 1
        if last_used in self._queues:
            self._queues.append(self._queues.pop(self._queues.index(last_used)))
        return last_used

    def _due(self) -> list[Lane]:
        """The lanes whose turn it is to go first, the least urgent in front; an empty one hides no other."""
        if self._last_was_turn:
            return []
        return [lane for lane in reversed(self._patience) if self._passed[lane] >= self._patience[lane]]


def _lane(queue: str) -> Lane:
    """Celery's own queues, should there ever be one, count as standard."""
    try:
        return parse(queue)[1]
    except ValueError:
        return Lane.STANDARD
