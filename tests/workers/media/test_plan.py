from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from core.domain import timeline
from workers.media.plan import EPSILON, plan

TIMES = st.lists(st.integers(0, 60_000), min_size=1, max_size=300).map(
    lambda ms: sorted(t / 1000 for t in ms)
)


def test_the_frames_at_the_centres_of_equal_slices_are_taken() -> None:
    dues = plan(timeline(4, 2), [n / 25 for n in range(100)], 5)

    assert [due.time for due in dues] == [0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.4, 3.8]
    assert [due.interval for due in dues] == [0] * 5 + [1] * 5


def test_a_centre_takes_the_frame_presented_next() -> None:
    assert [due.time for due in plan(timeline(2, 2), [0.0, 0.19, 0.21, 0.7, 1.9], 2)] == [0.7, 1.9]


def test_one_frame_is_taken_though_it_begins_before_every_centre() -> None:
    assert [(due.time, due.interval) for due in plan(timeline(0.04, 2), [0.0], 5)] == [(0.0, 0)]


def test_an_interval_in_which_no_frame_begins_gets_none() -> None:
    dues = plan(timeline(6, 2), [0.0, 1.0, 4.5], 5)

    assert [(due.time, due.interval) for due in dues] == [(1.0, 0), (4.5, 2)]


@given(TIMES, st.floats(1, 5), st.integers(1, 25))
def test_every_due_is_a_frame_of_its_interval_and_taken_once(
    times: list[float], seconds: float, count: int
) -> None:
    spans = timeline(times[-1] + 0.04, seconds)

    dues = plan(spans, times, count)

    assert all(times[due.position] == due.time for due in dues)
    assert len({due.position for due in dues}) == len(dues)
    assert all(a.time <= b.time and a.interval <= b.interval for a, b in pairwise(dues))
    for span in spans:
        mine = [due for due in dues if due.interval == span.index]
        begin = bisect_left(times, span.start - EPSILON)
        end = len(times) if span is spans[-1] else bisect_left(times, span.end - EPSILON)
        assert (not mine) == (begin == end)
        assert len(mine) <= count
        assert all(span.start - EPSILON <= due.time <= span.end for due in mine)


@given(TIMES, st.integers(1, 25))
def test_no_frame_between_a_centre_and_its_due(times: list[float], count: int) -> None:
    (span,) = timeline(60.04, 100)

    dues = [due.time for due in plan([span], times, count)]

    for k in range(count):
        centre = span.end * (k + 0.5) / count
        following = [t for t in times if t >= centre]
        assert (following[0] if following else times[-1]) in dues
