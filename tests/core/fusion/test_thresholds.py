"""Which numbers a file is judged with: calibrated ones where the operating point can be honoured."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import Modality, OperatingPoint, Verdict
from core.evidence import DetectorIdentity
from core.fusion.thresholds import SEED_THRESHOLDS, at_length, choose
from core.fusion.verdict import judge
from tests.core.fusion.samples import FACTS, VIT, WAV2VEC, fitted, rows
from tests.core.fusion.test_trace import marked

FPR_1, FPR_5 = OperatingPoint.FPR_1, OperatingPoint.FPR_5


def picked(*detectors: DetectorIdentity, point: OperatingPoint = FPR_1, **of_file: Any) -> Any:
    return choose(detectors, point, **{"intervals": 30, **of_file})


def test_detectors_that_were_never_calibrated_get_the_seeds_numbers() -> None:
    assert picked(VIT, WAV2VEC) == picked() == SEED_THRESHOLDS
    assert picked(VIT, point=FPR_5) == SEED_THRESHOLDS


def test_a_calibrated_detector_gets_its_own() -> None:
    chosen = picked(fitted(VIT))
    assert (chosen.operating_point, chosen.calibrated) == ("fpr_1", True)
    assert chosen.video.calibrated
    assert (chosen.video.suspicious, chosen.video.run_floor) == (0.9, 0.5)
    assert chosen.video.null.log_odds
    assert not chosen.video.by_size
    assert chosen.audio == SEED_THRESHOLDS.audio


def test_another_point_has_other_numbers() -> None:
    assert picked(fitted(VIT), point=FPR_5).video.suspicious == 0.8


def test_two_modalities_share_the_rate() -> None:
    shared = picked(fitted(VIT), fitted(WAV2VEC))
    assert shared.calibrated
    assert shared.video.suspicious == shared.audio.suspicious == 0.95
    assert picked(fitted(VIT)).video.suspicious == 0.9


def test_one_uncalibrated_detector_costs_the_promise_but_not_the_other_ones_numbers() -> None:
    mixed = picked(fitted(VIT), WAV2VEC)
    assert (mixed.operating_point, mixed.calibrated) == ("seed", False)
    assert mixed.video.calibrated
    assert mixed.audio == SEED_THRESHOLDS.audio


@pytest.mark.parametrize(("seconds", "honoured"), [(2.0, True), (2.1, True), (1.0, False), (5.0, False)])
def test_a_timeline_of_other_intervals_is_not_the_one_it_was_made_with(
    seconds: float, honoured: bool
) -> None:
    assert picked(fitted(VIT), interval_seconds=seconds).calibrated is honoured


@pytest.mark.parametrize(("frames", "honoured"), [(1, False), (4, False), (5, True), (25, True)])
def test_means_of_fewer_frames_than_it_was_made_with_hold_no_rate(frames: int, honoured: bool) -> None:
    assert picked(fitted(VIT), frames_per_interval=frames).calibrated is honoured
    assert picked(fitted(WAV2VEC), frames_per_interval=frames).calibrated  # sound has no frames
    judgement = judge(
        rows([0.7] * 2),
        facts=FACTS,
        operating_point=FPR_1,
        detectors=[fitted(VIT)],
        frames_per_interval=frames,
    )
    assert judgement.calibrated is honoured


def test_a_point_that_the_data_did_not_hold_is_not_honoured() -> None:
    assert not picked(fitted(VIT), point=OperatingPoint.BALANCED).calibrated


def test_two_detectors_in_one_modality_have_no_common_calibration() -> None:
    other = fitted(VIT).model_copy(update={"digest": "sha256:" + "f" * 64})
    assert picked(fitted(VIT), other) == SEED_THRESHOLDS


def test_the_bound_grows_with_the_length_of_the_file() -> None:
    bounds = [picked(fitted(VIT), intervals=n).video.run_excess for n in (1, 5, 30, 300, 3600)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1]


@given(st.integers(0, 100_000))
def test_between_the_knots_a_bound_is_linear_in_the_logarithm(intervals: int) -> None:
    bound = at_length(((10, 1.0), (1000, 3.0)), intervals)
    assert bound == pytest.approx(min(max(math.log10(max(intervals, 1)), 1.0), 3.0))


def test_a_curve_of_one_knot_is_level() -> None:
    assert at_length(((5, 2.5),), 1) == at_length(((5, 2.5),), 5) == at_length(((5, 2.5),), 9) == 2.5


def test_the_verdict_stands_on_them_and_says_whether_the_point_is_honoured() -> None:
    evidence = rows([0.7])
    assert judge(evidence, facts=FACTS).verdict is Verdict.DEEPFAKE
    honest = judge(evidence, facts=FACTS, operating_point=FPR_1, detectors=[fitted(VIT)])
    assert honest.thresholds.operating_point == "fpr_1"
    assert honest.calibrated
    assert honest.verdict is Verdict.INCONCLUSIVE
    seed = judge(evidence, facts=FACTS, operating_point=FPR_1, detectors=[VIT])
    assert (seed.operating_point, seed.calibrated) == (FPR_1, False)
    assert seed.thresholds == SEED_THRESHOLDS
    assert seed.verdict is Verdict.DEEPFAKE


def test_the_trace_detector_needs_no_calibration_for_that() -> None:
    trace = VIT.model_copy(update={"id": "own/trace"})
    judgement = judge(
        marked(rows([0.1] * 5), [0.1] * 5),
        facts=FACTS,
        operating_point=FPR_5,
        detectors=[fitted(VIT), trace],
    )
    assert judgement.calibrated
    assert judgement.detectors == (fitted(VIT), trace)


def test_a_calibrated_scan_reads_log_odds() -> None:
    """Two intervals of 0.999 count more than two of 0.95; as bare scores they would not."""
    quiet = [0.05] * 140

    def statistic(score: float) -> float:
        evidence = rows([*quiet, score, score, *quiet])
        side = judge(evidence, facts=FACTS, operating_point=FPR_5, detectors=[fitted(VIT)]).video
        assert side.run is not None
        return side.run.statistic

    assert statistic(0.999) > 1.5 * statistic(0.95)
    assert Modality.VIDEO is VIT.modality
