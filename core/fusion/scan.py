"""The strongest run of neighbouring scored intervals: a scan statistic.

For a window of L neighbouring intervals whose evidence (scores, or their log-odds) has the sum S, under a
null with mean m, standard deviation s and AR(1) correlation r within a file, and b between files,

    Z = (S - L m) / sqrt(s^2 (L + 2 sum_{k<L} (L - k) r^k) + L^2 b^2)

and the window is significant when Z reaches its bound. With n intervals in the timeline the seed's bound is
sqrt(2 log(e n / L)) + excess: the first term is what the best of all windows of that size reaches by chance.
A calibrated one is a single figure for all sizes, found by simulation for every n. Either grows with n, so
that a long clean file is not accused more often than a short one.

Sources: L. Duembgen and V. Spokoiny, "Multiscale testing of qualitative hypotheses", Ann. Statist. 29
(2001); H. P. Chan and G. Walther, "Detection with the scan and the average likelihood ratio",
Statistica Sinica 23 (2013), on both bounds: one figure is best for the shortest runs and costs the long ones
some power, of which they have plenty; G. Walther, "Calibrating the scan statistic with size-dependent
critical values" (2022, arXiv:2107.08296).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from core.calibration import log_odds
from core.domain import Frozen
from core.evidence import ScoreNull

#: Sums are taken over integers, so that rounding can never turn more evidence into less.
_UNIT = 1_000_000
#: Longer windows need not be looked at: one of mean x holds a window of 65 to 128 of mean >= x, and that
#: is significant at any floor one null sd above the null mean. Keeps the scan linear in the file's length.
LONGEST = 128


class Run(Frozen):
    """The strongest window that passed, widened for the reader to its suspicious neighbours."""

    first: int  #: position in the scanned sequence
    last: int  #: inclusive
    mean: float  #: of all its intervals
    peak: float  #: highest mean of any window that passed
    statistic: float  #: Z of the window itself
    threshold: float  #: what Z had to reach for a window of that size


class Bar(Frozen):
    """What a window must reach to be significant."""

    null: ScoreNull
    excess: float  #: null standard deviations
    by_size: bool  #: beyond what the best window of its size reaches by chance; False: as it is
    floor: float  #: least mean score
    shortest: int  #: intervals

    def height(self, intervals: int, length: int) -> float:
        """The least Z of a window of this length in a file of so many intervals."""
        chance = math.sqrt(2 * math.log(math.e * intervals / length)) if self.by_size else 0.0
        return chance + self.excess


def strongest_run(scores: Sequence[float | None], bar: Bar) -> Run | None:
    """The significant window that clears its bar by most, or None; null scores end a window.

    The bar counts all of `scores`, null or not: a further score can then only add evidence.
    """
    passed = [
        Run(
            first=start + window.offset,
            last=start + window.offset + window.length - 1,
            mean=window.mean,
            peak=window.peak,
            statistic=window.statistic,
            threshold=bar.height(len(scores), window.length),
        )
        for start, stretch in _stretches(scores)
        for window in _passing(stretch, len(scores), bar)
    ]
    if not passed:
        return None
    best = max(passed, key=lambda run: run.statistic - run.threshold)
    return _widened(best, scores, bar.floor, max(run.peak for run in passed))


def window_sd(length: int, null: ScoreNull) -> float:
    """Standard deviation of the sum of `length` neighbouring null scores (closed form)."""
    r = null.correlation
    within = length + 2 * (r * length / (1 - r) - r * (1 - r**length) / (1 - r) ** 2)
    return math.sqrt(null.sd**2 * within + (length * null.between) ** 2)


def _stretches(scores: Sequence[float | None]) -> Iterator[tuple[int, list[float]]]:
    """Maximal stretches without null, as (position of the first, scores)."""
    current: list[float] = []
    for position, score in enumerate([*scores, None]):
        if score is not None:
            current.append(score)
        elif current:
            yield position - len(current), current
            current = []


class _Window(Frozen):
    """The passing window of one length with the most evidence."""

    offset: int
    length: int
    mean: float  #: of its scores
    peak: float  #: highest mean of any passing window of this length
    statistic: float


def _passing(stretch: list[float], intervals: int, bar: Bar) -> Iterator[_Window]:
    """For each window size the strongest window that passes, where one does."""
    scores = _sums(stretch)
    evidence = _sums([log_odds(score) for score in stretch]) if bar.null.log_odds else scores
    for length in range(bar.shortest, min(len(stretch), LONGEST) + 1):
        spread, height = window_sd(length, bar.null), bar.height(intervals, length)
        sums = [high - low for low, high in zip(evidence, evidence[length:], strict=False)]
        if _standard(max(sums), length, bar.null, spread) < height:
            continue
        totals = [high - low for low, high in zip(scores, scores[length:], strict=False)]
        found = [
            (total, score, -offset)
            for offset, (total, score) in enumerate(zip(sums, totals, strict=True))
            if score / (length * _UNIT) >= bar.floor and _standard(total, length, bar.null, spread) >= height
        ]
        if found:
            total, score, offset = max(found)
            yield _Window(
                offset=-offset,
                length=length,
                mean=score / (length * _UNIT),
                peak=max(score for _, score, _ in found) / (length * _UNIT),
                statistic=_standard(total, length, bar.null, spread),
            )


def _sums(values: Sequence[float]) -> list[int]:
    """Running sums in millionths, from 0."""
    return list(accumulate((round(value * _UNIT) for value in values), initial=0))


def _standard(total: int, length: int, null: ScoreNull, spread: float) -> float:
    return (total / (length * _UNIT) - null.mean) * length / spread


def _widened(run: Run, scores: Sequence[float | None], floor: float, peak: float) -> Run:
    """The run with its neighbours that are themselves at or above the floor: where it ends, for people."""

    def above(position: int) -> bool:
        score = scores[position] if 0 <= position < len(scores) else None
        return score is not None and score >= floor

    first, last = run.first, run.last
    while above(first - 1):
        first -= 1
    while above(last + 1):
        last += 1
    inside = [score for score in scores[first : last + 1] if score is not None]
    mean = math.fsum(inside) / len(inside)
    return run.model_copy(update={"first": first, "last": last, "mean": mean, "peak": peak})
