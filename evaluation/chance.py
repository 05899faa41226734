"""How real files score by chance, and the limits that keep their false alarms at a named rate at any length.

The model of a real file: the log-odds of its calibrated interval scores have the distribution that was
measured; put through the normal quantile function they are the sum of a level of the file and a first-order
autoregression along its intervals. Levels and correlation come from the variogram (half the mean squared
difference at lags one and two), which a file's own level does not touch. Files of many lengths are drawn from
that model and judged by the rule of `core.fusion`: the run's excess at each length is the one that leaves the
rate. What the model cannot know is how the next camera scores: see docs/detection.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from core.calibration import log_odds
from core.domain import OperatingPoint
from core.evidence import LengthCurve, OperatingLimits, ScoreNull
from core.fusion.scan import LONGEST, window_sd

Floats = npt.NDArray[np.float64]
#: Files drawn of each length: the excess at a rate of 1% then lies within 0.2 points of it (two sd: 0.3).
FILES: Final = 4000
#: Intervals a file; 3600 are an hour at one second, and longer files are held to the last one.
LENGTHS: Final = (1, 2, 3, 5, 8, 15, 30, 60, 120, 300, 900, 3600)
#: Window lengths looked at: each to 8, then in steps of an eighth; what lies between hardly differs.
SIZES: Final = (*range(1, 9), *(round(8 * 1.125**n) for n in range(1, 24)), LONGEST)
#: Drawn numbers at once; 32 MB an array.
ROOM: Final = 4_000_000
#: Fewest neighbouring pairs that tell a correlation; with fewer the seed's is assumed.
MIN_PAIRS: Final = 30
ASSUMED_CORRELATION: Final = 0.5
#: Variance of normal scores (1 where they differ) below which all intervals score the same.
LEVEL: Final = 1e-9
HIGHEST_CORRELATION: Final = 0.95
#: A file's own level explains at most this share of the variance, so that a run remains one.
MOST_BETWEEN: Final = 0.95
#: How often chance may take REAL away, those files included that it accuses.
DOUBT: Final = {OperatingPoint.FPR_1: 0.05, OperatingPoint.FPR_5: 0.10}
#: Bounds of the rate of `balanced`: a detector that errs more often is no ground for accusing.
BALANCED: Final = (0.01, 0.10)
#: The seed's, on a scale where 0.5 means as likely as not.
REAL_BELOW, DECISIVE, RUN_FLOOR = 0.5, 0.7, 0.5
#: Null standard deviations below which nothing is called significant, whatever the rate leaves room for.
LEAST: Final = 1.0
_SEED: Final = 20050807


class Null(NamedTuple):
    """The scores of real intervals: what the scan standardises with, and what files are drawn from."""

    parameters: ScoreNull
    places: Floats  #: probabilities, rising
    values: Floats  #: log-odds at those, rising
    between: float  #: share of the variance that is the file's own level

    def draw(self, files: int, intervals: int, generator: np.random.Generator) -> Floats:
        """Log-odds of the intervals of real files, files x intervals."""
        r = self.parameters.correlation
        noise = generator.standard_normal((files, intervals))
        noise[:, 1:] *= math.sqrt(1 - r * r)
        noise = lfilter([1], [1, -r], noise, axis=1)
        level = generator.standard_normal((files, 1))
        latent = math.sqrt(self.between) * level + math.sqrt(1 - self.between) * noise
        drawn: Floats = np.interp(ndtr(latent), self.places, self.values)
        return drawn


def null_of(files: Sequence[Sequence[float | None]], *, ceiling: float) -> Null:
    """The null of real files' calibrated interval scores, null where none; one file, one vote.

    Nothing lies beyond `ceiling`.
    """
    rows = [np.array([math.nan if s is None else log_odds(s) for s in file]) for file in files]
    flat = np.concatenate(rows)
    seen = ~np.isnan(flat)
    weights = np.concatenate([np.full(len(row), 1 / np.sum(~np.isnan(row))) for row in rows])[seen]
    weights /= weights.sum()
    values, place = np.unique(flat[seen], return_inverse=True)
    share = np.bincount(place, weights)
    middle = np.cumsum(share) - share / 2
    normal = np.full(len(flat), math.nan)
    normal[seen] = ndtri(middle[place])
    ends = np.cumsum([len(row) for row in rows])[:-1]
    correlation, between = _dependence(np.split(normal, ends))
    mean = float(weights @ flat[seen])
    spread = max(math.sqrt(weights @ (flat[seen] - mean) ** 2), 1e-3)
    places = middle * seen.sum() / (seen.sum() + 1)
    return Null(
        ScoreNull(
            mean=mean,
            sd=spread * math.sqrt(1 - between),
            correlation=correlation,
            between=spread * math.sqrt(between),
            log_odds=True,
        ),
        *_with_tail(places, values, int(seen.sum()), log_odds(ceiling)),
        between,
    )


def _with_tail(places: Floats, values: Floats, count: int, ceiling: float) -> tuple[Floats, Floats]:
    """Quantiles beyond the highest score seen: every tenfold rarity adds what the last one seen added."""
    last = float(values[-1])
    decade = last - float(np.interp(1 - 10 / count, places, values))
    rarer = [1 - 0.1 / count, 1.0]
    beyond = [max(min(last + decade * n, ceiling), last) for n in (1, 2)]
    return np.concatenate([places, rarer]), np.concatenate([values, beyond])


def _dependence(files: Sequence[Floats]) -> tuple[float, float]:
    """Correlation of neighbours within a file and the share of variance between files, of normal scores."""
    one, two = (np.concatenate([(row[lag:] - row[:-lag]) ** 2 / 2 for row in files]) for lag in (1, 2))
    one, two = one[~np.isnan(one)], two[~np.isnan(two)]
    if len(one) < MIN_PAIRS or len(two) < MIN_PAIRS:
        return ASSUMED_CORRELATION, 0.0
    total = float(np.nanvar(np.concatenate(files)))
    if total < LEVEL:
        return ASSUMED_CORRELATION, 0.0
    # Of a variance v within files the lags leave v (1 - r) and v (1 - r^2); their ratio is 1 + r.
    nearest, next_ = max(float(one.mean()), 1e-12), float(two.mean())
    correlation = min(max(next_ / nearest - 1, 0.0), HIGHEST_CORRELATION)
    within = nearest / (1 - correlation)
    return correlation, min(max(1 - within / total, 0.0), MOST_BETWEEN)


class Drawn(NamedTuple):
    """What the rule makes of simulated real files of one length."""

    means: Floats  #: of each file, as a probability
    runs: Floats  #: Z of its strongest run; -inf: none
    doubts: Floats  #: the same for doubt


def judged(null: Null, intervals: int, files: int, generator: np.random.Generator) -> Drawn:
    """Draw files of a length and look at them as `core.fusion.scan` does."""
    batch = max(1, ROOM // intervals)
    parts = [
        _looked_at(null.draw(min(batch, files - n), intervals, generator), null.parameters)
        for n in range(0, files, batch)
    ]
    return Drawn(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _looked_at(evidence: Floats, null: ScoreNull) -> Drawn:
    scores = 1 / (1 + np.exp(-evidence))
    runs, doubts = (np.full(len(evidence), -np.inf) for _ in range(2))
    for length, statistic, mean in windows(evidence, scores, null):
        np.maximum(doubts, np.where(mean >= REAL_BELOW, statistic, -np.inf).max(1), out=doubts)
        if length > 1:
            np.maximum(runs, np.where(mean >= RUN_FLOOR, statistic, -np.inf).max(1), out=runs)
    return Drawn(scores.mean(1), runs, doubts)


def windows(evidence: Floats, scores: Floats, null: ScoreNull) -> Iterator[tuple[int, Floats, Floats]]:
    """For each length Z and the mean score of every window, files x places."""
    sums, totals = (np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0))) for each in (evidence, scores))
    for length in [size for size in SIZES if size <= evidence.shape[1]]:
        inside = sums[:, length:] - sums[:, :-length]
        statistic = (inside - length * null.mean) / window_sd(length, null)
        yield length, statistic, (totals[:, length:] - totals[:, :-length]) / length


def limits(null: Null, *, files: int, equal_error: float, simulated: int) -> tuple[OperatingLimits, ...]:
    """The limits of each operating point whose rate so many real files can show at all (one file or more)."""
    generator = np.random.default_rng(_SEED)
    drawn = {length: judged(null, length, _count(length, simulated), generator) for length in LENGTHS}
    balanced = min(max(equal_error, *BALANCED[:1], 1 / files), BALANCED[1])
    rates = {OperatingPoint.FPR_1: 0.01, OperatingPoint.FPR_5: 0.05, OperatingPoint.BALANCED: balanced}
    return tuple(
        _limits(null, drawn, point, rate, share)
        for point, rate in rates.items()
        for share in (1, 2)
        if rate * files >= 1
    )


def _count(length: int, simulated: int) -> int:
    """Fewer of the longest files: they take the time, and their maxima scatter least."""
    return simulated if length <= 300 else max(simulated // 3, 1)  # noqa: PLR2004 - ten minutes


def _limits(
    null: Null, drawn: dict[int, Drawn], point: OperatingPoint, rate: float, share: int
) -> OperatingLimits:
    own = rate / share
    top = float(np.interp(1 - own, null.places, null.values))
    suspicious = max(REAL_BELOW, 1 / (1 + math.exp(-top)))
    doubt = DOUBT.get(point, 2 * rate) / share
    accusing, doubting = {}, {}
    for length, one in drawn.items():
        accused = one.means >= suspicious
        accusing[length] = excess(one.runs, own, accused)
        flagged = accused | (one.runs >= accusing[length]) | (one.means >= REAL_BELOW)
        doubting[length] = excess(one.doubts, doubt, flagged)
    return OperatingLimits(
        point=point,
        share=share,
        rate=rate,
        real_below=REAL_BELOW,
        suspicious=suspicious,
        decisive=max(DECISIVE, suspicious),
        run_floor=RUN_FLOOR,
        run_excess=_curve(accusing),
        doubt_excess=_curve(doubting),
    )


def excess(statistics: Floats, rate: float, otherwise: npt.NDArray[np.bool_]) -> float:
    """The bound that at most `rate` of files reach, those flagged `otherwise` included.

    Where those alone fill the rate it is beyond every file that was drawn.
    """
    room = int(rate * len(statistics)) - int(otherwise.sum())
    left = np.sort(statistics[~otherwise])[::-1]
    if room >= len(left):
        return LEAST
    bound = left[max(room, 0)] if room >= 0 else statistics.max() + 1
    return max(float(bound), LEAST) if math.isfinite(bound) else LEAST


def _curve(bounds: dict[int, float]) -> LengthCurve:
    return tuple((length, round(bound + 1e-4, 4)) for length, bound in bounds.items())
