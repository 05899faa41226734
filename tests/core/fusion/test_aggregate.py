from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Modality, Reason
from core.fusion.aggregate import ModalityEvidence, mean, summarize
from core.fusion.inputs import IntervalEvidence, label
from core.fusion.thresholds import SEED_THRESHOLDS
from tests.core.fusion.samples import row, rows

scores = st.floats(0, 1)
cells = st.one_of(scores, st.sampled_from(list(Reason)))


def video(evidence: list[IntervalEvidence]) -> ModalityEvidence:
    return summarize(evidence, Modality.VIDEO, SEED_THRESHOLDS)


@given(st.lists(st.one_of(scores, st.none()), max_size=40))
def test_nulls_never_change_a_mean(mixed: list[float | None]) -> None:
    measured = [score for score in mixed if score is not None]
    assert mean(mixed) == mean(measured)


@given(st.lists(cells, min_size=1, max_size=40), st.sampled_from(list(Reason)))
def test_a_further_null_interval_changes_no_mean(cells_: list[float | Reason], reason: Reason) -> None:
    assert video(rows([*cells_, reason])).score == video(rows(cells_)).score


@given(st.lists(scores, min_size=1, max_size=40), st.randoms())
def test_a_mean_does_not_depend_on_the_order(values: list[float], shuffler: random.Random) -> None:
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert mean(shuffled) == mean(values)
    result = mean(values)
    assert result is not None
    assert min(values) <= result <= max(values)


def test_nothing_scored_has_no_mean() -> None:
    assert mean([]) is None
    assert mean([None, None]) is None
    side = video(rows([Reason.NO_FACE, Reason.BLURRED]))
    assert side.score is None
    assert side.scored_intervals == 0


def test_every_null_is_counted_by_its_reason() -> None:
    side = video(rows([0.1, Reason.NO_FACE, Reason.NO_FACE, Reason.WORKER_LOST]))
    assert side.null_reasons == {Reason.NO_FACE: 2, Reason.WORKER_LOST: 1}


def test_a_finding_with_neither_score_nor_reason_was_not_analysed() -> None:
    bare = row(0)
    bare = bare.model_copy(update={"video": bare.video.model_copy(update={"reason": None})})
    assert video([bare]).null_reasons == {Reason.NOT_ANALYZED: 1}


def test_coverage_counts_faces_that_were_there_and_not_faces_that_were_not() -> None:
    side = video(rows([0.1, 0.2, Reason.BLURRED, Reason.NO_FACE, Reason.NO_FACE]))
    assert side.scorable_seconds == 6.0
    assert side.scored_seconds == 4.0
    assert side.coverage == pytest.approx(2 / 3)


def test_coverage_is_null_where_nothing_could_be_scored() -> None:
    side = video(rows([Reason.NO_FACE] * 3))
    assert side.coverage is None
    assert side.cleared == 0.0


def test_speech_coverage_uses_measured_speech() -> None:
    evidence = [
        row(0, audio=0.1, speech=1.5),
        row(1, audio=Reason.DETECTOR_FAILED, speech=0.5),
        row(2, audio=Reason.SILENCE, speech=0.0),
        row(3, audio=Reason.MUSIC, speech=0.0),
    ]
    side = summarize(evidence, Modality.AUDIO, SEED_THRESHOLDS)
    assert (side.scored_seconds, side.scorable_seconds) == (1.5, 2.0)
    assert side.coverage == 0.75


@pytest.mark.parametrize("speech", [None, 0.0])
def test_a_score_without_measured_speech_counts_its_whole_interval(speech: float | None) -> None:
    side = summarize([row(0, audio=0.4, speech=speech)], Modality.AUDIO, SEED_THRESHOLDS)
    assert side.scorable_seconds == side.scored_seconds == 2.0


def test_more_speech_than_interval_is_the_interval() -> None:
    side = summarize([row(0, audio=0.4, speech=9.0)], Modality.AUDIO, SEED_THRESHOLDS)
    assert side.scorable_seconds == 2.0


def test_cleared_time_is_scored_time_below_half() -> None:
    side = video(rows([0.1, 0.49, 0.5, 0.9]))
    assert side.cleared_seconds == 4.0
    assert side.cleared == 0.5
    assert side.suspicious_intervals == 1


def test_a_run_is_placed_in_seconds() -> None:
    side = video(rows([0.1] * 10 + [0.95] * 3 + [0.1] * 10))
    assert side.run is not None
    assert (side.run.interval, side.run.start, side.run.end) == ("20.0-26.0", 20.0, 26.0)
    assert side.run.intervals == 3
    assert side.run.mean == pytest.approx(0.95)
    assert side.run.statistic >= side.run.threshold


def test_a_missing_row_does_not_make_its_neighbours_adjacent() -> None:
    whole = rows([0.1] * 20 + [0.95, 0.95] + [0.1] * 20)
    moved = [interval for interval in whole if interval.index != 21]
    assert video(whole).run is not None
    assert video(moved).run is None


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (4, 6, "4.0-6.0"),
        (0.0, 12.498711, "0.0-12.499"),
        (1.25, 2.5, "1.25-2.5"),
        (1798.0, 1800.0, "1798.0-1800.0"),
    ],
)
def test_intervals_are_cited_like_the_first_report_did(start: float, end: float, expected: str) -> None:
    assert label(start, end) == expected


@given(st.floats(0, 1e5), st.floats(0.001, 10))
def test_a_label_reads_back_to_the_millisecond(start: float, seconds: float) -> None:
    first, last = label(start, start + seconds).split("-")
    assert math.isclose(float(first), start, abs_tol=5.1e-4)
    assert math.isclose(float(last), start + seconds, abs_tol=5.1e-4)
