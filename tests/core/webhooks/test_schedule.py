"""The schedule of tries, and what receivers may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.webhooks.schedule import DELAYS, JITTER, LONGEST_WAIT, delay, parse_retry_after

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    hours = [round(step.total_seconds() / 3600, 4) for step in DELAYS]
    assert hours == [0, 0.0014, 0.0833, 0.5, 2, 5, 10, 14, 20, 24]


@pytest.mark.parametrize("tries", range(1, len(DELAYS)))
def test_a_delay_is_never_shorter_and_a_little_longer_at_random(tries: int) -> None:
    found = [delay(tries) for _ in range(200)]
    assert all(step is not None and DELAYS[tries] <= step <= DELAYS[tries] * (1 + JITTER) for step in found)
    assert len(set(found)) > 100


def test_after_the_last_try_there_is_none() -> None:
    assert delay(len(DELAYS)) is None
    assert delay(len(DELAYS) + 5, timedelta(seconds=1)) is None


def test_a_receiver_can_ask_for_more_time_but_neither_for_less_nor_for_ever() -> None:
    assert delay(1, timedelta(minutes=10)) == timedelta(minutes=10)
    assert delay(1, timedelta(days=900)) == LONGEST_WAIT
    shorter = delay(3, timedelta(seconds=1))
    assert shorter is not None
    assert shorter >= DELAYS[3]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        (format_datetime(NOW + timedelta(minutes=3), usegmt=True), timedelta(minutes=3)),
        ("Mon, 23 Nov 2026 11:00:00 GMT", timedelta(0)),  # in the past
        ("Mon, 23 Nov 2026 12:00:30 -0000", timedelta(seconds=30)),  # no zone: UTC
        ("9" * 400, LONGEST_WAIT),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
        ("Mon, 23 Nov 2026 12:00:00 +99999999999999999999", None),
        ("Mon, 23 Nov 20260000000000000000000 12:00:00 GMT", None),
        ("Fri, 01 Jan 99999999999 00:00:00 GMT", None),  # more than a C integer holds
        ("Fri, 99999999999999999999 Dec 2026 00:00:00 GMT", None),
        ("Fri, 31 Dec 2026 00:00:00 +99999999999999999999", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, expected: timedelta | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(st.text(max_size=60))
def test_no_header_can_break_it(value: str) -> None:
    found = parse_retry_after(value, NOW)
    assert found is None or found >= timedelta(0)
