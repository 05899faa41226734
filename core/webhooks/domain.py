"""The words of webhooks: events, where a delivery stands, and what came of one try."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from core.domain import Frozen


class EventType(StrEnum):
    """What an endpoint may ask to be told."""

    COMPLETED = "analysis.completed"
    FAILED = "analysis.failed"
    CANCELED = "analysis.canceled"
    PROGRESS = "analysis.progress"  #: a stage of the work has closed; only for those who ask


#: Told unless an endpoint says otherwise: how each analysis ended.
ENDS: Final = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELED)
#: The type of a test event. Nobody subscribes to it: it is sent to one endpoint when its owner asks.
TEST_EVENT: Final = "webhook.test"


class DeliveryStatus(StrEnum):
    """Where the telling of one event to one address stands."""

    OWED = "owed"  #: to be tried at `next_attempt_at`
    SENDING = "sending"  #: leased by one process
    DELIVERED = "delivered"  #: answered with 2xx
    FAILED = "failed"  #: every try has failed, or the receiver said 410
    DROPPED = "dropped"  #: nobody wants it any more: its endpoint is disabled, or newer news is out


#: Not told yet, and not given up.
OPEN: Final = (DeliveryStatus.OWED, DeliveryStatus.SENDING)


class Disabled(StrEnum):
    """Why an endpoint is told nothing."""

    BY_OWNER = "by_owner"
    GONE = "gone"  #: it answered 410
    FAILING = "failing"  #: nothing but failures for days


class Outcome(Frozen):
    """What came of one try: an HTTP status, or the code of an error."""

    at: datetime
    milliseconds: int
    status: int | None = None
    error: str | None = None
    answer: str | None = None  #: the first 2 kB of the body
    retry_after: timedelta | None = None

    @property
    def is_delivered(self) -> bool:
        """2xx and nothing else: a redirection is not followed, so nobody has read the event there."""
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_gone(self) -> bool:
        """The receiver wants no more of it."""
        return self.status == HTTPStatus.GONE
