"""From labelled answers to a curve that turns them into probabilities.

Which curve: isotonic regression overtakes Platt's from about 1000 independent cases on and overfits below
(Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", ICML 2005, section 5).
Intervals of one file are not independent, so files are what is counted. Each class weighs half, so that the
probabilities hold at equal shares of real and fake, and within a class each file weighs the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from core.calibration import NEAREST, Isotonic, Platt
from core.domain import Frozen, Label
from core.evidence import Probability

Floats = npt.NDArray[np.float64]
#: Files from which on the curve is isotonic.
ISOTONIC_FILES: Final = 1000
#: Newton steps; the problem is convex in two parameters and needs about eight.
STEPS: Final = 100
_USELESS: Final = "The detector does not rank these fake files above the real ones; no curve can mend that."


class CannotCalibrate(Exception):
    """These files do not hold a calibration; the message says what is missing."""


class Labelled(Frozen):
    """One labelled file as a detector answered it, uncalibrated."""

    file: str
    group: str | None = None  #: files of one group are held out together
    label: Label
    #: The answers in each interval in order: of the frames of the track that gave the score, or one alone.
    #: Empty where there is none, so that neighbours stay neighbours.
    intervals: tuple[tuple[Probability, ...], ...]

    @property
    def scored(self) -> int:
        """Intervals with an answer."""
        return sum(bool(answers) for answers in self.intervals)


class Answers:
    """All answers of some files side by side, with the weight of each."""

    def __init__(self, rows: Sequence[Labelled]) -> None:
        self.rows = rows
        self.scores = np.array([one for row in rows for part in row.intervals for one in part], np.float64)
        shares = [(len(part), row.scored, row.label) for row in rows for part in row.intervals if part]
        sizes = np.array([size for size, _, _ in shares])
        fake = np.array([label is Label.FAKE for _, _, label in shares])
        weights = np.array([1 / scored for _, scored, _ in shares])
        for of_class in (fake, ~fake):
            weights[of_class] /= 2 * weights[of_class].sum() or 1
        self.fake = np.repeat(fake, sizes)
        self.weights: Floats = np.repeat(weights / sizes, sizes)
        #: The same by interval; `means` makes interval scores of answers.
        self.interval_fake, self.interval_weights, self._sizes = fake, weights, sizes

    def means(self, answers: Floats) -> Floats:
        """The mean of each interval's answers, as the pipeline scores an interval."""
        starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        means: Floats = np.add.reduceat(answers, starts) / self._sizes
        return means

    def split(self, values: Floats) -> list[list[float | None]]:
        """Interval scores by file, null where an interval had no answer."""
        given = iter(values.tolist())
        return [[next(given) if part else None for part in row.intervals] for row in self.rows]


def curve_of(answers: Answers) -> Platt | Isotonic:
    """The curve of these answers. Raises CannotCalibrate when it would fall."""
    platt = _platt(answers)  # an isotonic curve never falls: it would level out and hide what falls
    return _isotonic(answers) if len(answers.rows) >= ISOTONIC_FILES else platt


def applied(curve: Platt | Isotonic, scores: Floats, bounds: tuple[float, float]) -> Floats:
    """Probabilities of scores, as `Calibration.apply` gives them."""
    if isinstance(curve, Platt):
        values = 1 / (1 + np.exp(-(curve.slope * _log_odds(scores) + curve.offset)))
    else:
        values = np.interp(scores, *np.array(curve.knots).T)
    clipped: Floats = np.clip(values, *bounds)
    return clipped


def _isotonic(answers: Answers) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - only whoever calibrates needs it

    model = IsotonicRegression(y_min=0, y_max=1).fit(
        answers.scores, answers.fake.astype(float), sample_weight=answers.weights
    )
    if not model.y_thresholds_[0] < model.y_thresholds_[-1]:
        raise CannotCalibrate(_USELESS)
    knots = zip(model.X_thresholds_.tolist(), model.y_thresholds_.tolist(), strict=True)
    return Isotonic(knots=tuple(knots))


def _platt(answers: Answers) -> Platt:
    """Newton's method on Platt's smoothed targets (Lin, Lin and Weng, Machine Learning 68, 2007)."""
    counts = {label: sum(row.label is label for row in answers.rows) for label in Label}
    high, low = (
        (counts[Label.FAKE] + 1) / (counts[Label.FAKE] + 2),
        1 / (counts[Label.REAL] + 2),
    )
    design = np.stack([_log_odds(answers.scores), np.ones_like(answers.scores)])
    targets, weights = np.where(answers.fake, high, low), answers.weights
    parameters = np.zeros(2)
    for _ in range(STEPS):
        values = 1 / (1 + np.exp(-np.clip(parameters @ design, -500, 500)))
        gradient = design @ (weights * (values - targets))
        hessian = (design * (weights * values * (1 - values))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        parameters -= step * min(1, 5 / (np.abs(step).max() or 1))
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - far below what six digits of a report show
            break
    slope, offset = parameters.tolist()
    if not (math.isfinite(slope) and slope > 0):
        raise CannotCalibrate(_USELESS)
    return Platt(slope=slope, offset=offset)


def _log_odds(scores: Floats) -> Floats:
    inside = np.clip(scores, NEAREST, 1 - NEAREST)
    values: Floats = np.log(inside / (1 - inside))
    return values
