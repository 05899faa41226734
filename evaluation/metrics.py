"""Figures of merit on arrays: which files are altered, and a score for each. NaN must not come here.

`fake` is bool [n], `scores` float [n] in [0, 1], higher for fake. A figure that the data do not define is
NaN: which class is missing is said elsewhere.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Bins of equal width in which a score is compared with what came true (Guo et al. 2017, ICML).
BINS: Final = 10


class Bin(NamedTuple):
    """A span of scores, and what the files in it are."""

    low: float
    high: float
    files: int
    score: float  #: mean
    share: float  #: of altered files


def both(fake: Bools) -> bool:
    """Whether there is something to tell apart."""
    return bool(fake.any() and not fake.all())


def auc(fake: Bools, scores: Floats) -> float:
    """Chance that an altered file scores above an unaltered one; ties count half.

    As scikit-learn's `roc_auc_score`, which checks its arguments for twenty times as long as it counts:
    intervals need thousands of these.
    """
    if not both(fake):
        return math.nan
    alarms, found, _ = counts(fake, scores)
    return float(np.sum(np.diff(alarms) * (found[1:] + found[:-1])) / (2 * alarms[-1] * found[-1]))


def average_precision(fake: Bools, scores: Floats) -> float:
    """Area under precision over recall; without any skill it is the share of altered files.

    As scikit-learn's `average_precision_score`.
    """
    if not both(fake):
        return math.nan
    alarms, found, _ = counts(fake, scores)
    precision = found[1:] / (found[1:] + alarms[1:])
    return float(np.sum(np.diff(found) / found[-1] * precision))


def counts(fake: Bools, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Unaltered and altered files at or above each score, and that score, from infinity downwards."""
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(fake[order], dtype=float)
    last = np.append(falling[1:] != falling[:-1], True) if falling.size else np.zeros(0, bool)
    found = np.append(0.0, hits[last])
    above = np.append(0.0, np.arange(1.0, falling.size + 1)[last])
    return above - found, found, np.append(np.inf, falling[last])


def roc(fake: Bools, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """False-positive rates, recalls and thresholds from the strictest on; the first threshold is infinite."""
    alarms, found, thresholds = counts(fake, scores)
    return alarms / alarms[-1], found / found[-1], thresholds


def eer(fake: Bools, scores: Floats) -> float:
    """Equal error rate: where the ROC's straight lines cross false-positive rate = miss rate.

    Source: Martin et al. 1997, "The DET curve in assessment of detection task performance", Eurospeech.
    """
    return _equal(fake, scores)[0]


def equal_threshold(fake: Bools, scores: Floats) -> float:
    """The score at which both errors are nearest to equal."""
    return _equal(fake, scores)[1]


def _equal(fake: Bools, scores: Floats) -> tuple[float, float]:
    if not both(fake):
        return math.nan, math.nan
    rates, recalls, thresholds = roc(fake, scores)
    gap = rates - (1 - recalls)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    nearest = after if abs(gap[after]) <= abs(gap[before]) or before == 0 else before
    return float(rates[before] + share * (rates[after] - rates[before])), float(thresholds[nearest])


def flagged(scores: Floats, threshold: float) -> float:
    """Share of these scores at or above the threshold."""
    return float(np.mean(scores >= threshold)) if scores.size else math.nan


def threshold_at(real_scores: Floats, rate: float) -> float:
    """The lowest threshold that at most this share of unaltered files reaches; just above one of them."""
    allowed = math.floor(rate * real_scores.size + 1e-9)
    highest = np.sort(real_scores)[::-1]
    return float(np.nextafter(highest[allowed], np.inf)) if allowed < highest.size else 0.0


def brier(fake: Bools, scores: Floats) -> float:
    """Mean squared distance of the score from what came true: 0 is perfect, always 0.5 gives 0.25."""
    return float(np.mean(np.square(scores - fake))) if scores.size else math.nan


def reliability(fake: Bools, scores: Floats) -> tuple[Bin, ...]:
    """What came true in each tenth of the scale that holds any file."""
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            files=int(inside.sum()),
            score=float(scores[inside].mean()),
            share=float(fake[inside].mean()),
        )
        for place in range(BINS)
        if (inside := places == place).any()
    )


def calibration_error(fake: Bools, scores: Floats) -> float:
    """Expected calibration error: the mean distance of score and share over the bins, weighed by files.

    It has an upward bias that grows as files get few: a perfect score does not reach 0 on ten files.
    """
    if not scores.size:
        return math.nan
    return sum(one.files * abs(one.score - one.share) for one in reliability(fake, scores)) / scores.size


def risk_coverage(wrong: Bools, confidence: Floats) -> tuple[Floats, Floats]:
    """Share answered and error rate among those answered, the surest first; equally sure ones together.

    Source: El-Yaniv & Wiener 2010, "On the foundations of noise-free selective classification", JMLR 11.
    """
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(wrong[order])
    answered = np.arange(1, wrong.size + 1)
    last = np.append(np.diff(confidence[order]) != 0, True) if wrong.size else np.zeros(0, bool)
    return answered[last] / max(wrong.size, 1), (errors / answered)[last]


def risk_area(wrong: Bools, confidence: Floats) -> float:
    """Area under risk over coverage: the mean error rate over all shares that may be answered."""
    if not wrong.size:
        return math.nan
    coverage, risk = risk_coverage(wrong, confidence)
    widths = np.diff(coverage, prepend=0.0)
    return float(np.sum(widths * risk))
