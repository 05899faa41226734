"""Timeline arithmetic and the table of transitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.domain import (
    ACTIVE,
    ANALYSIS_TRANSITIONS,
    TERMINAL,
    AnalysisStatus,
    Options,
    timeline,
)


@given(duration=st.floats(min_value=0.001, max_value=40_000), seconds=st.floats(min_value=1, max_value=5))
def test_intervals_cover_the_duration_without_gap_or_overlap(duration: float, seconds: float) -> None:
    spans = timeline(duration, seconds)
    assert [span.index for span in spans] == list(range(len(spans)))
    assert spans[0].start == 0
    assert spans[-1].end == pytest.approx(duration, abs=1e-6)
    for before, after in pairwise(spans):
        assert before.end == after.start
        assert before.end - before.start == pytest.approx(seconds, abs=2e-6)
    assert spans[-1].end - spans[-1].start + 1e-6 > 0
    assert spans[-1].end - spans[-1].start <= seconds * 1.1 + 1e-5


@pytest.mark.parametrize(
    ("duration", "ends"),
    [
        (8.0, [2, 4, 6, 8]),
        (7.0, [2, 4, 6, 7]),
        (2.1, [2.1]),  # a sliver joins the interval before it
        (2.3, [2, 2.3]),
        (0.04, [0.04]),
        (4.19, [2, 4.19]),
    ],
)
def test_a_sliver_is_joined_to_the_interval_before(duration: float, ends: list[float]) -> None:
    assert [span.end for span in timeline(duration, 2.0)] == ends


@pytest.mark.parametrize("duration", [0, -1])
def test_there_is_no_timeline_of_nothing(duration: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        timeline(duration, 2)


def test_what_has_ended_stays_ended() -> None:
    assert set(AnalysisStatus) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert all(ANALYSIS_TRANSITIONS[status] == frozenset() for status in TERMINAL)
    assert all(ANALYSIS_TRANSITIONS[status] for status in ACTIVE)


@pytest.mark.parametrize(
    "options",
    [
        {"interval_seconds": 0.99},
        {"interval_seconds": 5.01},
        {"interval_seconds": float("nan")},
        {"frames_per_interval": 0},
        {"frames_per_interval": 26},
        {"frames_per_interval": 2.5},
        {"unknown": 1},
    ],
)
def test_options_have_bounds(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_values_cannot_be_changed() -> None:
    options = Options()
    with pytest.raises(ValidationError, match="frozen"):
        options.interval_seconds = 3  # type: ignore[misc]  # the very mistake under test
    assert options.interval_seconds == 2.0
