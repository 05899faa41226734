"""Calibrations from labelled answers whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from core.calibration import Calibration, Isotonic, Platt
from core.domain import Label, OperatingPoint
from evaluation import chance, held_out
from evaluation.curves import ISOTONIC_FILES, Answers, CannotCalibrate, Labelled, applied, curve_of
from evaluation.fitting import MIN_FILES, fit
from tests.core.fusion.samples import VIT

REAL, FAKE = Label.REAL, Label.FAKE
MANIFEST = "sha256:" + "c" * 64
#: Log-odds of a raw score are SCALE x the truth's, plus SHIFT: what a curve has to undo.
SCALE, SHIFT, APART = 3.0, 2.0, 2.0


def files(count: int, *, intervals: int = 8, seed: int = 1, apart: float = APART) -> list[Labelled]:
    """So many real and as many fake files of a detector that is too sure of itself and leans to fake.

    With `x` normal around +-apart/2 the true log-odds of fake are apart x.
    """
    rng = np.random.default_rng(seed)
    made = []
    for label in Label:
        middle = apart / 2 if label is FAKE else -apart / 2
        for n in range(count):
            truth = apart * rng.normal(middle, 1, intervals)
            raw = 1 / (1 + np.exp(-(SCALE * truth + SHIFT)))
            made.append(
                Labelled(
                    file=f"{label.value}-{n:05}",
                    group=f"person {n % 10}",
                    label=label,
                    intervals=tuple((score,) for score in raw.tolist()),
                )
            )
    return made


def fitted_on(rows: Sequence[Labelled], **options: Any) -> Calibration:
    known: dict[str, Any] = {"identity": VIT, "manifest": MANIFEST, "simulated": 300}
    return fit(rows, **{**known, **options})


@pytest.fixture(scope="module")
def small() -> Calibration:
    return fitted_on(files(120), made_at=datetime(2026, 1, 2, tzinfo=UTC))


def test_platt_undoes_what_the_detector_does_to_its_log_odds(small: Calibration) -> None:
    assert isinstance(small.curve, Platt)
    assert small.curve.slope == pytest.approx(1 / SCALE, rel=0.15)
    assert small.curve.offset == pytest.approx(-SHIFT / SCALE, abs=0.2)


def test_probabilities_are_right_on_files_it_has_not_seen(small: Calibration) -> None:
    answers = Answers(files(400, seed=2))
    after = np.array(small.apply(answers.scores.tolist()))
    error = held_out.calibration_error(after, answers.fake, answers.weights)
    before = held_out.calibration_error(answers.scores, answers.fake, answers.weights)
    assert error < 0.03
    assert before > 0.1


def test_the_figures_say_what_it_was_made_from(small: Calibration) -> None:
    assert (small.real_files, small.fake_files) == (120, 120)
    assert (small.real_intervals, small.fake_intervals) == (960, 960)
    assert (small.weights, small.manifest) == (VIT.digest, MANIFEST)
    assert (small.detector, small.modality) == (VIT.id, VIT.modality)
    assert small.made_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert small.floor == pytest.approx(1 / 962)
    assert small.ceiling == pytest.approx(961 / 962)


def test_held_out_errors_shrink_and_are_measured_by_group(small: Calibration) -> None:
    errors = small.held_out
    assert (errors.folds_by, errors.folds) == ("group", 5)
    assert errors.auc == pytest.approx(0.921, abs=0.03)  # of two normals, APART sd apart
    assert errors.brier < errors.brier_before
    assert errors.log_loss < errors.log_loss_before
    assert errors.calibration_error < errors.calibration_error_before


def test_the_null_is_that_of_real_files(small: Calibration) -> None:
    null = small.null
    assert null.log_odds
    assert null.mean == pytest.approx(-APART * APART / 2, abs=0.3)
    assert math.hypot(null.sd, null.between) == pytest.approx(APART, abs=0.2)
    assert null.correlation < 0.15
    assert null.between < 0.5


def test_every_point_has_limits_for_one_and_for_two_modalities(small: Calibration) -> None:
    found = {(one.point, one.share): one for one in small.limits}
    assert set(found) == {(point, share) for point in OperatingPoint for share in (1, 2)}
    for share in (1, 2):
        strict, lax = found[OperatingPoint.FPR_1, share], found[OperatingPoint.FPR_5, share]
        assert strict.suspicious > lax.suspicious >= 0.5
        assert strict.decisive >= strict.suspicious
        for (_, high), (_, low) in zip(strict.run_excess, lax.run_excess, strict=True):
            assert high >= low
    for point in OperatingPoint:
        assert found[point, 2].suspicious >= found[point, 1].suspicious


def test_a_rate_that_so_few_files_cannot_show_is_not_offered() -> None:
    points = {limits.point for limits in fitted_on(files(40)).limits}
    assert OperatingPoint.FPR_1 not in points
    assert OperatingPoint.FPR_5 in points


def test_a_thousand_files_get_an_isotonic_curve() -> None:
    rows = files(ISOTONIC_FILES // 2, intervals=2)
    curve = curve_of(Answers(rows))
    assert isinstance(curve, Isotonic)
    assert isinstance(curve_of(Answers(rows[1:])), Platt)
    calibration = fitted_on(rows, simulated=50)
    scores = Answers(rows).scores
    np.testing.assert_allclose(
        applied(curve, scores, (calibration.floor, calibration.ceiling)),
        calibration.apply(scores.tolist()),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("real", "fake"), [(0, 50), (50, 0), (MIN_FILES - 1, 50), (50, MIN_FILES - 1), (0, 0)]
)
def test_a_class_that_is_missing_or_too_small_is_refused_with_figures(real: int, fake: int) -> None:
    rows = files(50, intervals=2)
    chosen = [row for row in rows if row.label is REAL][:real] + [row for row in rows if row.label is FAKE][
        :fake
    ]
    with pytest.raises(
        CannotCalibrate, match=rf"{min(real, MIN_FILES) if real < MIN_FILES else fake} scored"
    ):
        fitted_on(chosen)


def test_files_without_a_score_do_not_count() -> None:
    rows = files(MIN_FILES, intervals=2)
    empty = rows[0].model_copy(update={"intervals": ((), ())})
    with pytest.raises(CannotCalibrate, match=f"{MIN_FILES - 1} scored real"):
        fitted_on([empty, *rows[1:]])


def test_a_detector_that_ranks_the_wrong_way_round_is_refused() -> None:
    swapped = [row.model_copy(update={"label": FAKE if row.label is REAL else REAL}) for row in files(30)]
    with pytest.raises(CannotCalibrate, match="does not rank"):
        fitted_on(swapped)


def test_an_isotonic_curve_hides_no_wrong_way_round() -> None:
    rows = files(ISOTONIC_FILES // 2, intervals=1)
    swapped = [row.model_copy(update={"label": FAKE if row.label is REAL else REAL}) for row in rows]
    with pytest.raises(CannotCalibrate, match="does not rank"):
        curve_of(Answers(swapped))


def test_a_detector_that_always_says_the_same_is_refused() -> None:
    flat = [row.model_copy(update={"intervals": ((0.3,), (0.3,))}) for row in files(30)]
    with pytest.raises(CannotCalibrate):
        fitted_on(flat)


def test_scores_that_are_calibrated_already_are_refused() -> None:
    with pytest.raises(CannotCalibrate, match="already"):
        fitted_on(files(30), identity=VIT.model_copy(update={"calibrated": True}))


def test_a_perfect_detector_stays_finite() -> None:
    perfect = [
        row.model_copy(update={"intervals": ((1.0 if row.label is FAKE else 0.0,),) * 3}) for row in files(30)
    ]
    calibration = fitted_on(perfect, simulated=50)
    low, high = calibration.apply([0.0, 1.0])
    assert 0 < low < 0.1
    assert 0.9 < high < 1
    assert calibration.held_out.auc == 1


def test_the_order_of_the_list_does_not_matter() -> None:
    rows = files(30)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    one, other = (fitted_on(each, made_at=when, simulated=50) for each in (rows, rows[::-1]))
    assert one == other


def test_a_long_file_counts_as_much_as_a_short_one() -> None:
    rows = files(30, intervals=4)
    longer = [rows[0].model_copy(update={"intervals": rows[0].intervals * 50}), *rows[1:]]
    one, other = (curve_of(Answers(each)) for each in (rows, longer))
    assert isinstance(one, Platt)
    assert isinstance(other, Platt)
    assert other.slope == pytest.approx(one.slope, rel=1e-6)


def test_an_intervals_score_is_the_mean_of_its_calibrated_answers() -> None:
    rows = [Labelled(file="a", label=REAL, intervals=((0.2, 0.4), (), (0.9,)))]
    answers = Answers(rows)
    assert answers.means(answers.scores).tolist() == pytest.approx([0.3, 0.9])
    assert answers.split(np.array([0.3, 0.9])) == [[0.3, None, 0.9]]


def test_groups_are_never_split_and_every_file_is_in_one_fold() -> None:
    rows = files(23)
    parts = held_out.folds(rows, lambda row: row.group or "")
    assert sorted(row.file for part in parts for row in part) == sorted(row.file for row in rows)
    homes = {(row.group, n) for n, part in enumerate(parts) for row in part}
    assert len(homes) == 10


def test_one_group_is_held_out_by_file() -> None:
    rows = [row.model_copy(update={"group": "all"}) for row in files(30)]
    assert held_out.measure(rows).reported.folds_by == "file"
    one_each = [row.model_copy(update={"group": row.label.value}) for row in files(30)]
    assert held_out.measure(one_each).reported.folds_by == "file"


def test_real_files_that_all_score_the_same_have_a_null() -> None:
    # Powers of two: their shares sum to 1 without rounding, and no variance is left to divide by.
    null = chance.null_of([[0.05] * 8] * 32, ceiling=0.95).parameters
    assert math.isfinite(null.mean)
    assert (null.correlation, null.between) == (chance.ASSUMED_CORRELATION, 0)


def test_the_dependence_of_neighbours_and_of_files_is_found_apart() -> None:
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(300):
        level, noise = rng.normal(0, 1), [rng.normal()]
        for _ in range(39):
            noise.append(0.6 * noise[-1] + 0.8 * rng.normal())
        scores.append([float(1 / (1 + np.exp(-(level + n)))) for n in noise])
    null = chance.null_of(scores, ceiling=1 - 1e-6)
    assert null.parameters.correlation == pytest.approx(0.6, abs=0.08)
    assert null.parameters.between == pytest.approx(1, abs=0.2)
    assert null.parameters.sd == pytest.approx(1, abs=0.15)


def test_files_too_short_for_neighbours_get_the_assumed_correlation() -> None:
    null = chance.null_of([[0.1], [0.2], [0.3, None, 0.2]], ceiling=0.99)
    assert (null.parameters.correlation, null.parameters.between) == (chance.ASSUMED_CORRELATION, 0)
