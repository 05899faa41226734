"""How much one key may ask for: token buckets in Postgres, and a bound on analyses that have not ended.

The clock is Postgres', so every API process sees the same bucket. Words and units are those of
draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.orm import Session

from core.config import AdmissionSettings, settings
from core.domain import Frozen
from core.errors import TooManyRequests
from core.models import Analysis

#: Seconds after which a place may be free: an analysis of a short clip takes about that long.
IN_FLIGHT_RETRY: Final = 10
#: Name of the bucket of language model calls; no policy of a key's, so no header names it.
NARRATIONS: Final = "narrations"
DAY: Final = 86_400


class Policy(StrEnum):
    """Names of the quotas, as the RateLimit headers have them."""

    REQUESTS = "requests"
    SUBMISSIONS = "submissions"  #: requests that accept work
    IN_FLIGHT = "in-flight"  #: analyses that have not ended


class Standing(Frozen):
    """What one policy allows a key, and what is left of it after this request."""

    policy: Policy
    quota: int
    left: int
    allowed: bool
    window: int | None = None  #: seconds in which the whole quota comes back; None: when analyses end
    reset: int | None = None  #: seconds until more than `left` is there; None: nobody knows


#: The row lock makes it atomic, and the clock is read while it is held. No row back: the bucket is empty.
#: An elapsed time below nought is a server clock that was set back; it costs the key nothing.
SPEND: Final = text(
    """
    INSERT INTO rate_limits AS bucket (key_prefix, policy, tokens, refilled_at)
    VALUES (:key, :policy, :quota - 1, clock_timestamp())
    ON CONFLICT (key_prefix, policy) DO UPDATE
    SET tokens = LEAST(:quota, bucket.tokens + :rate * GREATEST(0, EXTRACT(epoch FROM clock_timestamp() - bucket.refilled_at))) - 1,
        refilled_at = clock_timestamp()
    WHERE bucket.tokens + :rate * GREATEST(0, EXTRACT(epoch FROM clock_timestamp() - bucket.refilled_at)) >= 1
    RETURNING tokens
    """  # noqa: E501 - SQL reads best a clause a line
)
LOOK: Final = text(
    """
    SELECT LEAST(:quota, tokens + :rate * GREATEST(0, EXTRACT(epoch FROM clock_timestamp() - refilled_at)))
    FROM rate_limits WHERE key_prefix = :key AND policy = :policy
    """
)
#: Waits for the other submissions of the key that are about to commit. 1 names the purpose.
ALONE: Final = text("SELECT pg_advisory_xact_lock(1, hashtext(:key))")


def spend(session: Session, key_prefix: str, *, submission: bool = False) -> tuple[Standing, ...]:
    """Count one request; the last standing is the one that refuses, if any does.

    Commit also a refused one, so that hammering an empty quota does not get it for nothing.
    """
    admission = settings().admission
    spent = [_spend(session, key_prefix, Policy.REQUESTS, admission.requests, admission)]
    if submission and spent[0].allowed:
        spent.append(_spend(session, key_prefix, Policy.SUBMISSIONS, admission.submissions, admission))
    return tuple(spent)


def _spend(
    session: Session, key_prefix: str, policy: Policy, quota: int, admission: AdmissionSettings
) -> Standing:
    rate = quota / admission.window.total_seconds()
    bucket: dict[str, object] = {"key": key_prefix, "policy": policy.value, "quota": quota, "rate": rate}
    tokens = _tokens(session, SPEND, bucket)
    allowed = tokens is not None
    if tokens is None:
        tokens = min(_tokens(session, LOOK, bucket) or 0.0, 1.0)
    whole = math.floor(tokens) if allowed else 0
    return Standing(
        policy=policy,
        quota=quota,
        left=whole,
        allowed=allowed,
        window=math.ceil(admission.window.total_seconds()),
        reset=max(1, math.ceil((whole + 1 - tokens) / rate)),
    )


def _tokens(session: Session, statement: TextClause, bucket: dict[str, object]) -> float | None:
    found = session.execute(statement, bucket).scalar_one_or_none()
    return None if found is None else float(found)


def take_narration(session: Session, calls_per_day: int) -> bool:
    """Count one call of the language model; False when today's are spent. Refills evenly over the day."""
    bucket: dict[str, object] = {
        "key": "",  # of no key: of the installation
        "policy": NARRATIONS,
        "quota": calls_per_day,
        "rate": calls_per_day / DAY,
    }
    return calls_per_day > 0 and _tokens(session, SPEND, bucket) is not None


def in_flight(session: Session, key_prefix: str) -> Standing:
    """How many more analyses the key may have open now; another request may take the place first."""
    quota = settings().admission.in_flight
    found = select(Analysis.id).where(Analysis.key_prefix == key_prefix, Analysis.completed_at.is_(None))
    open_now = session.scalar(select(func.count()).select_from(found.limit(quota).subquery())) or 0
    return Standing(
        policy=Policy.IN_FLIGHT, quota=quota, left=max(0, quota - open_now), allowed=open_now < quota
    )


def take_place(session: Session, key_prefix: str) -> None:
    """In the transaction that submits: its place is the key's until it ends. Raises TooManyRequests.

    Comes first in that transaction: submissions of a key queue here until the one before has committed.
    """
    session.execute(ALONE, {"key": key_prefix})
    standing = in_flight(session, key_prefix)
    if not standing.allowed:
        raise refusal(standing)


def refusal(standing: Standing) -> TooManyRequests:
    """The error of a standing that does not allow."""
    violated: dict[str, Any] = {"violated-policies": [standing.policy.value]}  # the draft's own member
    if standing.policy is Policy.IN_FLIGHT:
        return TooManyRequests(
            f"{standing.quota} analyses of this API key have not ended yet",
            code="too_many_in_flight",
            retry_after=IN_FLIGHT_RETRY,
            limit=standing.quota,
            **violated,
        )
    return TooManyRequests(
        f"this API key may make {standing.quota} {standing.policy} in {standing.window} s",
        retry_after=standing.reset,
        limit=standing.quota,
        **violated,
    )


def unfinished(session: Session, at_most: int) -> int:
    """Analyses of everybody that have not ended, counted no further than `at_most`."""
    found = select(Analysis.id).where(Analysis.completed_at.is_(None)).limit(at_most)
    return session.scalar(select(func.count()).select_from(found.subquery())) or 0
