"""Figures of merit on data whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluation import metrics

FAKE = np.array([False, False, False, False, True, True, True, True])
SCORES = np.array([0.1, 0.2, 0.3, 0.7, 0.4, 0.6, 0.8, 0.9])
KINDS = arrays.arrays(bool, 15).filter(lambda fake: bool(fake.any() and not fake.all()))


def test_known_answers() -> None:
    assert metrics.auc(FAKE, SCORES) == 14 / 16
    assert metrics.eer(FAKE, SCORES) == pytest.approx(0.25)
    assert metrics.flagged(SCORES[~FAKE], 0.7) == 0.25
    assert metrics.brier(FAKE, SCORES) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("scores", "rate"), [([0.1, 0.2, 0.8, 0.9], 0.0), ([0.8, 0.9, 0.1, 0.2], 1.0), ([0.5] * 4, 0.5)]
)
def test_equal_error_at_its_ends(scores: list[float], rate: float) -> None:
    assert metrics.eer(np.array([False, False, True, True]), np.array(scores)) == pytest.approx(rate)


def test_equal_error_of_two_normals() -> None:
    """At d' = 2 both errors are equal at Phi(-1) = 0.159."""
    generator = np.random.default_rng(1)
    fake = np.arange(40_000) % 2 == 1
    scores = 1 / (1 + np.exp(-(generator.normal(size=40_000) + 2 * fake - 1)))
    assert metrics.eer(fake, scores) == pytest.approx(0.1587, abs=0.006)
    assert metrics.equal_threshold(fake, scores) == pytest.approx(0.5, abs=0.01)


@given(arrays.arrays(float, 15, elements=st.floats(0, 1)), KINDS)
def test_equal_error_lies_between_the_rates_around_it(scores: metrics.Floats, fake: metrics.Bools) -> None:
    rate, threshold = metrics.eer(fake, scores), metrics.equal_threshold(fake, scores)
    assert 0 <= rate <= 1
    alarms = metrics.flagged(scores[~fake], threshold)
    misses = 1 - metrics.flagged(scores[fake], threshold)
    assert min(alarms, misses) - 1e-9 <= rate or rate <= max(alarms, misses) + 1e-9


@given(arrays.arrays(float, 15, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0])), KINDS)
def test_they_agree_with_scikit_learn(scores: metrics.Floats, fake: metrics.Bools) -> None:
    assert metrics.auc(fake, scores) == pytest.approx(sklearn.metrics.roc_auc_score(fake, scores))
    expected = sklearn.metrics.average_precision_score(fake, scores)
    assert metrics.average_precision(fake, scores) == pytest.approx(expected)
    rates, recalls, thresholds = sklearn.metrics.roc_curve(fake, scores, drop_intermediate=False)
    own = metrics.roc(fake, scores)
    for one, other in zip(own, (rates, recalls, thresholds), strict=True):
        assert one == pytest.approx(other)


def test_one_kind_alone_defines_nothing() -> None:
    for fake in (np.ones(4, bool), np.zeros(4, bool), np.zeros(0, bool)):
        scores = np.linspace(0, 1, fake.size)
        assert math.isnan(metrics.auc(fake, scores))
        assert math.isnan(metrics.eer(fake, scores))
        assert math.isnan(metrics.average_precision(fake, scores))


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_a_threshold_keeps_its_rate(rate: float) -> None:
    scores = np.random.default_rng(0).integers(0, 20, 200) / 20  # with ties
    assert metrics.flagged(scores, metrics.threshold_at(scores, rate)) <= rate
    assert metrics.threshold_at(scores, 1.0) == 0.0


def test_calibrated_scores_have_no_error_and_bold_ones_have() -> None:
    share = np.repeat(np.arange(10) / 10 + 0.05, 200)
    fake = np.tile(np.arange(200), 10) < np.repeat((np.arange(10) * 20 + 10), 200)
    assert metrics.calibration_error(fake, share) == pytest.approx(0, abs=1e-9)
    assert metrics.calibration_error(fake, np.where(share > 0.5, 1.0, 0.0)) == pytest.approx(0.25)
    assert [one.files for one in metrics.reliability(fake, share)] == [200] * 10
    assert metrics.reliability(np.array([True]), np.array([1.0]))[0].high == 1.0


def test_the_surest_answers_come_first() -> None:
    wrong = np.array([True, False, False, True])
    coverage, risk = metrics.risk_coverage(wrong, np.array([0.1, 0.9, 0.8, 0.2]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert metrics.risk_area(wrong, np.array([0.1, 0.9, 0.8, 0.2])) == pytest.approx((1 / 3 + 0.5) / 4)


def test_equally_sure_answers_are_not_sorted_by_luck() -> None:
    for wrong in ([True, False], [False, True]):
        coverage, risk = metrics.risk_coverage(np.array(wrong), np.array([0.5, 0.5]))
        assert (coverage.tolist(), risk.tolist()) == ([1.0], [0.5])
    assert metrics.risk_coverage(np.zeros(0, bool), np.zeros(0))[0].size == 0
