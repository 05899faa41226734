from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import envelopes
from core.domain import ACTIVE, TERMINAL, AnalysisStatus, Stage, StepStatus
from core.listing import StageProgress
from core.models import Analysis


def stage(name: Stage, done: int, total: int) -> StageProgress:
    return StageProgress(stage=name, status=StepStatus.RUNNING, done=done, total=total)


@given(video=st.integers(0, 5), audio=st.integers(0, 5))
def test_progress_never_falls_and_is_whole_only_at_the_end(video: int, audio: int) -> None:
    states: list[list[StageProgress]] = [[], [stage(Stage.EXTRACT, 0, 1)]]
    for done_video, done_audio, fused in [(0, 0, 0), (video, 0, 0), (video, audio, 0), (video, audio, 1)]:
        branches = [(Stage.VIDEO, done_video, video), (Stage.AUDIO, done_audio, audio)]
        states.append(
            [
                stage(Stage.EXTRACT, 1, 1),
                *(stage(name, done, total) for name, done, total in branches if total),
                stage(Stage.FUSE, fused, 1),
            ]
        )
    seen = [envelopes.fraction(AnalysisStatus.PROCESSING, state) for state in states]
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert seen[-1] < 1.0
    assert {envelopes.fraction(status, states[-1]) for status in TERMINAL} == {1.0}


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (None, False), ("", False), ('"8"', False), ('"7"', True), ('W/"7"', True), ("*", True),
        ('W/"6", W/"7"', True), ('"77"', False), ("7", False),
    ],
)  # fmt: skip
def test_if_none_match_compares_weakly(header: str | None, same: bool) -> None:
    assert envelopes.matches(header, 'W/"7"') is same


@pytest.mark.parametrize(("age", "wait"), [(0, 1), (19, 1), (40, 3), (100_000, 10), (-5, 1)])
def test_an_old_analysis_is_asked_for_more_rarely(age: float, wait: int) -> None:
    now = datetime.now(UTC)
    for status in ACTIVE:
        row = Analysis(status=status.value, created_at=now - timedelta(seconds=age))
        assert envelopes.retry_after(row, now) == wait


def test_an_ended_analysis_need_not_be_asked_for_again() -> None:
    now = datetime.now(UTC)
    assert {envelopes.retry_after(Analysis(status=end.value, created_at=now), now) for end in TERMINAL} == {
        None
    }
