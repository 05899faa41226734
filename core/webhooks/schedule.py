"""When a failed telling is tried again: the schedule that Standard Webhooks give as their example."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

#: Before the first try, the second, …; after the last one the delivery has failed. 75 hours in all.
DELAYS: Final = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
#: Of a delay, added at random, so that what failed together does not come back together.
JITTER: Final = 0.2
#: The longest that a receiver may put us off.
LONGEST_WAIT: Final = timedelta(hours=24)
#: RFC 9110 bounds it no more than this; a 400-digit number is no number of seconds.
MAX_DIGITS: Final = 9


def delay(tries: int, retry_after: timedelta | None = None) -> timedelta | None:
    """How long to wait after that many tries; None: that was the last.

    What the receiver asks for can only make it longer.
    """
    if tries >= len(DELAYS):
        return None
    spread = 1 + secrets.SystemRandom().uniform(0, JITTER)
    return max(DELAYS[tries] * spread, min(retry_after or timedelta(0), LONGEST_WAIT))


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """A `Retry-After` header (RFC 9110, 10.2.3): seconds or a date; None for anything else."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=int(text)) if len(text) <= MAX_DIGITS else LONGEST_WAIT
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # a zone or a year of 20 digits overflows what C can hold
        return None
    return max(moment.replace(tzinfo=moment.tzinfo or UTC) - now, timedelta(0))
