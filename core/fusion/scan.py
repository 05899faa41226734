"""The strongest run of neighbouring scored intervals: a scan statistic with size-dependent thresholds.

For a window of L neighbouring intervals with sum S, under a null with mean m, standard deviation s and
AR(1) correlation r,

    Z = (S - L m) / (s sqrt(L + 2 sum_{k<L} (L - k) r^k))

and the window is significant when Z >= sqrt(2 log(e n / L)) + excess, n being the number of intervals of
the timeline. The first term is what the best of all windows of that size reaches by chance, so a long
clean file is not accused more often than a short one, and four seconds in ten minutes still count.

Sources: L. Duembgen and V. Spokoiny, "Multiscale testing of qualitative hypotheses", Ann. Statist. 29
(2001); H. P. Chan and G. Walther, "Detection with the scan and the average likelihood ratio",
Statistica Sinica 23 (2013); G. Walther, "Calibrating the scan statistic with size-dependent critical
values" (2022, arXiv:2107.08296).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from core.domain import Frozen
from core.fusion.thresholds import Null

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


def strongest_run(
    scores: Sequence[float | None], *, null: Null, excess: float, floor: float, shortest: int
) -> Run | None:
    """The significant window that clears its threshold by most, or None; null scores end a window.

    `floor` is the least mean a window may have. The threshold counts all of `scores`, null or not: a
    further score can then only add evidence.
    """
    best: tuple[float, Run] | None = None
    peak = 0.0
    for start, stretch in _stretches(scores):
        for length, offset, mean in _best_windows(stretch, shortest):
            statistic = (mean - null.mean) * length / _window_sd(length, null)
            share = math.sqrt(2 * math.log(math.e * len(scores) / length))
            if mean < floor or statistic < share + excess:
                continue
            peak = max(peak, mean)
            if best is None or statistic - share > best[0]:
                first = start + offset
                run = Run(
                    first=first,
                    last=first + length - 1,
                    mean=mean,
                    peak=mean,
                    statistic=statistic,
                    threshold=share + excess,
                )
                best = (statistic - share, run)
    return None if best is None else _widened(best[1], scores, floor, peak)


def _stretches(scores: Sequence[float | None]) -> Iterator[tuple[int, list[int]]]:
    """Maximal stretches without null, as (position of the first, scores in millionths)."""
    current: list[int] = []
    for position, score in enumerate([*scores, None]):
        if score is not None:
            current.append(round(score * _UNIT))
        elif current:
            yield position - len(current), current
            current = []


def _best_windows(stretch: list[int], shortest: int) -> Iterator[tuple[int, int, float]]:
    """For each window size (length, offset, mean) of the window with the largest sum.

    For one size Z and the mean grow with the sum, so the largest sum is all that matters.
    """
    sums = [0]
    for score in stretch:
        sums.append(sums[-1] + score)
    for length in range(shortest, min(len(stretch), LONGEST) + 1):
        windows = [high - low for low, high in zip(sums, sums[length:], strict=False)]
        total = max(windows)
        yield length, windows.index(total), total / (length * _UNIT)


def _window_sd(length: int, null: Null) -> float:
    """Standard deviation of the sum of `length` neighbouring null scores (AR(1), closed form)."""
    r = null.correlation
    variance = length + 2 * (r * length / (1 - r) - r * (1 - r**length) / (1 - r) ** 2)
    return null.sd * math.sqrt(variance)


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
