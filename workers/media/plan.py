"""Which frames stand for an interval, decided from presentation times alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.domain import Span

#: Two times closer than this are one: the timeline is rounded to microseconds.
EPSILON: Final = 2e-6


@dataclass(frozen=True)
class Due:
    """A frame that must be kept: its place among the presented frames, its time and its interval."""

    position: int
    time: float  #: seconds from the first presented sample
    interval: int


def plan(spans: Sequence[Span], times: Sequence[float], frames_per_interval: int) -> tuple[Due, ...]:
    """For each interval the frames at the centres of its equal slices; `times` must be sorted.

    For a centre the first frame presented at or after it is taken, else the interval's last one; a
    frame is taken once. An interval in which no frame begins gets none.
    """
    dues: list[Due] = []
    for span in spans:
        first = bisect_left(times, span.start - EPSILON)
        # The last interval keeps a frame that is presented at the very end of the timeline.
        beyond = len(times) if span is spans[-1] else bisect_left(times, span.end - EPSILON)
        step = (span.end - span.start) / frames_per_interval
        centres = [span.start + (k + 0.5) * step for k in range(frames_per_interval)]
        places = [min(bisect_left(times, c - EPSILON, first, beyond), beyond - 1) for c in centres]
        if beyond > first:
            dues += [Due(place, times[place], span.index) for place in dict.fromkeys(places)]
    return tuple(dues)
