from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.calibration import NEAREST, Calibration, HeldOutError, Isotonic, Platt, log_odds, sigmoid
from core.domain import Modality
from tests.core.fusion.samples import VIT, fitted

probabilities = st.floats(0, 1)
curves = st.one_of(
    st.builds(Platt, slope=st.floats(1e-3, 100), offset=st.floats(-50, 50)),
    st.lists(st.tuples(probabilities, probabilities), min_size=1, max_size=12).map(
        lambda pairs: Isotonic(knots=rising(pairs))
    ),
)


def rising(pairs: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(sorted({x for x, _ in pairs}), sorted(y for _, y in pairs), strict=False))


def made(**changed: Any) -> Calibration:
    """A calibration like those of `fitted`."""
    summary = fitted(VIT).calibration
    assert summary is not None
    known = {
        "detector": VIT.id,
        "modality": Modality.VIDEO,
        "weights": VIT.digest,
        "curve": Platt(slope=2.0, offset=-1.0),
        "floor": 0.01,
        "ceiling": 0.99,
        "real_files": 120,
        "fake_files": 120,
        "real_intervals": 1800,
        "fake_intervals": 1800,
        "interval_seconds": 2.0,
        "made_at": datetime(2026, 1, 2, tzinfo=UTC),
        "manifest": "sha256:" + "d" * 64,
        "null": summary.null,
        "limits": summary.limits,
        "held_out": HeldOutError(
            folds_by="group",
            folds=5,
            auc=0.9,
            brier=0.1,
            brier_before=0.2,
            log_loss=0.3,
            log_loss_before=0.6,
            calibration_error=0.02,
            calibration_error_before=0.1,
        ),
    }
    return Calibration.model_validate({**known, **changed})


@given(curves, st.lists(probabilities, max_size=20))
def test_probabilities_stay_in_bounds_and_never_change_order(
    curve: Platt | Isotonic, scores: list[float]
) -> None:
    scores.sort()
    answers = made(curve=curve).apply(scores)
    assert answers == sorted(answers)
    assert all(0.01 <= answer <= 0.99 for answer in answers)


def test_platt_is_a_sigmoid_of_log_odds() -> None:
    assert Platt(slope=1.0, offset=0.0)(0.3) == pytest.approx(0.3)
    assert Platt(slope=2.0, offset=-1.0)(0.5) == pytest.approx(1 / (1 + math.e))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_saturated_answers_are_finite(score: float) -> None:
    assert math.isfinite(log_odds(score))
    assert 0 <= Platt(slope=100.0, offset=40.0)(score) <= 1


@pytest.mark.parametrize(
    ("score", "probability"), [(0.0, 0.1), (0.2, 0.1), (0.3, 0.25), (0.4, 0.4), (0.5, 0.4), (0.9, 0.4)]
)
def test_isotonic_is_linear_between_knots_and_level_outside(score: float, probability: float) -> None:
    curve = Isotonic(knots=((0.2, 0.1), (0.4, 0.4), (0.6, 0.4)))
    assert curve(score) == pytest.approx(probability)


@pytest.mark.parametrize(
    "knots", [(), ((0.2, 0.5), (0.1, 0.6)), ((0.1, 0.5), (0.1, 0.6)), ((0.1, 0.6), (0.2, 0.5)), ((0.1, 2),)]
)
def test_knots_that_do_not_rise_are_refused(knots: Any) -> None:
    with pytest.raises(ValidationError):
        Isotonic(knots=knots)


@pytest.mark.parametrize("slope", [0.0, -1.0, math.nan])
def test_a_sigmoid_that_does_not_rise_is_refused(slope: float) -> None:
    with pytest.raises(ValidationError):
        Platt(slope=slope, offset=0.0)


def test_it_reads_back_from_json_and_keeps_its_digest() -> None:
    for curve in (Platt(slope=2.0, offset=-1.0), Isotonic(knots=((0.1, 0.0), (0.7, 1.0)))):
        calibration = made(curve=curve)
        again = Calibration.model_validate_json(calibration.model_dump_json())
        assert again == calibration
        assert again.digest == calibration.digest
        assert again.curve == curve


def test_another_curve_is_another_digest() -> None:
    assert made().digest != made(curve=Platt(slope=2.0, offset=-1.1)).digest


def test_the_summary_carries_what_fusion_needs() -> None:
    summary = made().summary
    assert (summary.kind, summary.intervals) == ("platt", 3600)
    assert summary.digest == made().digest
    assert summary.limits == made().limits


def test_weights_are_named_by_a_full_digest() -> None:
    with pytest.raises(ValidationError):
        made(weights="abc")


@given(st.floats(-800, 800))
def test_sigmoid_and_log_odds_undo_each_other(value: float) -> None:
    assert 0 <= sigmoid(value) <= 1
    inside = min(max(value, log_odds(NEAREST)), log_odds(1 - NEAREST))
    assert log_odds(sigmoid(value)) == pytest.approx(inside, abs=1e-6)
