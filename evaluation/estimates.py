"""A figure with how far it can be trusted: percentile bootstrap over files, or over groups of them.

Files of one person or one source resemble each other, and resampling them one by one would promise more than
the data hold: where groups are given, whole groups are drawn (Field & Welsh 2007, "Bootstrapping clustered
data", JRSS B 69). Where all resamples agree (nothing wrong in nine files is no error rate of 0), the interval
is an exact one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from core.domain import Frozen
from evaluation.metrics import Bools, Floats

#: Resamples: the ends of a 95% interval then scatter by about a twentieth of its width.
ROUNDS: Final = 1000
LEVEL: Final = 0.95
#: Fewer files of a kind give no figure worth the name, and fewer independent groups of them no interval.
FEWEST: Final = 5
_Z: Final = 1.959964
_SEED: Final = 20100607
Kind = Literal["rate", "auc", "other"]
#: (fake, scores) of a resample -> a figure, or NaN.
Statistic = Callable[[Bools, Floats], float]


class Estimate(Frozen):
    """A figure; null with the reason when the data do not hold it."""

    value: float | None
    low: float | None = None  #: of the 95% interval; null: too few for one
    high: float | None = None
    reason: str | None = None  #: why value is null

    @classmethod
    def nothing(cls, reason: str) -> Estimate:
        """No figure, and why."""
        return cls(value=None, reason=reason)


@dataclass(frozen=True)
class Sample:
    """The scored files: what they are, their scores, and which of them belong together."""

    fake: Bools
    scores: Floats
    clusters: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Files."""
        return len(self.fake)

    def lacks(self) -> str | None:
        """Why nothing can be told apart; None when there are enough files of both kinds."""
        real, fake = int((~self.fake).sum()), int(self.fake.sum())
        if min(real, fake) >= FEWEST:
            return None
        return f"not enough data: {real} unaltered and {fake} altered, {FEWEST} of each are needed"

    def independent(self, kind: bool | None = None) -> int:  # noqa: FBT001 - one of the two kinds
        """Clusters that hold an altered (True), an unaltered (False) or any file."""
        chosen = slice(None) if kind is None else self.fake == kind
        return int(np.unique(self.clusters[chosen]).size)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        """Some of the files."""
        return Sample(self.fake[chosen], self.scores[chosen], self.clusters[chosen])


def estimate(
    sample: Sample, statistics: Mapping[str, tuple[Statistic, Kind]], *, rounds: int = ROUNDS
) -> dict[str, Estimate]:
    """Each figure with its interval, all from the same resamples; null where there are too few files."""
    lacks = sample.lacks()
    if lacks is not None:
        return {name: Estimate.nothing(lacks) for name in statistics}
    fewest = min(sample.independent(kind=True), sample.independent(kind=False))
    return _bootstrapped(sample, statistics, rounds if fewest >= FEWEST else 0)


def rate(hits: Bools, clusters: npt.NDArray[np.int64], *, of: str, rounds: int = ROUNDS) -> Estimate:
    """The share of files that something is true of; `of` says what files they are."""
    if hits.size < FEWEST:
        return Estimate.nothing(f"not enough data: {hits.size} {of}, {FEWEST} are needed")
    sample = Sample(hits, hits.astype(float), clusters)
    statistics: dict[str, tuple[Statistic, Kind]] = {"rate": (lambda _, found: float(np.mean(found)), "rate")}
    return _bootstrapped(sample, statistics, rounds if sample.independent() >= FEWEST else 0)["rate"]


def _bootstrapped(
    sample: Sample, statistics: Mapping[str, tuple[Statistic, Kind]], rounds: int
) -> dict[str, Estimate]:
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    for rows in _resamples(sample, rounds):
        fake, scores = sample.fake[rows], sample.scores[rows]
        for name, (statistic, _) in statistics.items():
            drawn[name].append(statistic(fake, scores))
    return {
        name: _estimated(statistic(sample.fake, sample.scores), np.asarray(drawn[name]), kind, sample)
        for name, (statistic, kind) in statistics.items()
    }


def _resamples(sample: Sample, rounds: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of each resample: as many clusters as there are, drawn with replacement."""
    _, places = np.unique(sample.clusters, return_inverse=True)
    order = np.argsort(places, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(places))[:-1])
    generator = np.random.default_rng(_SEED)
    for _ in range(rounds):
        yield np.concatenate([members[n] for n in generator.integers(0, len(members), len(members))])


def _estimated(value: float, drawn: Floats, kind: Kind, sample: Sample) -> Estimate:
    if math.isnan(value):
        return Estimate.nothing("the data do not define it")
    drawn = drawn[~np.isnan(drawn)]
    ends: tuple[float, float] | None = None
    if drawn.size:
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.percentile(drawn, [tail, 100 - tail])
        ends = (float(low), float(high)) if low < high else exact(value, kind, sample)
    if ends is None:
        return Estimate(value=round(value, 6))
    return Estimate(value=round(value, 6), low=round(ends[0], 6), high=round(ends[1], 6))


def exact(value: float, kind: Kind, sample: Sample) -> tuple[float, float] | None:
    """The interval of a figure that no resample moves; independent are clusters, not files."""
    if kind == "rate":
        return clopper_pearson(value, sample.independent())
    if kind == "auc":
        return newcombe(value, sample.independent(kind=False), sample.independent(kind=True))
    return None


def clopper_pearson(share: float, count: int) -> tuple[float, float]:
    """Interval of a share of `count` independent trials (Clopper & Pearson 1934, Biometrika 26)."""
    hits, tail = round(share * count), (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, hits, count - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def newcombe(area: float, real: int, fake: int) -> tuple[float, float]:
    """Interval of an AUC that stays honest at 1 (Newcombe 2006, Statistics in Medicine 25:559, method 5)."""
    grid = np.linspace(0, 1, 10_001)
    half = (real + fake) / 2 - 1
    spread = grid * (1 - grid) * (1 + half * ((1 - grid) / (2 - grid) + grid / (1 + grid))) / (real * fake)
    inside = grid[np.abs(grid - area) <= _Z * np.sqrt(spread) + 1e-12]
    return float(inside.min()), float(inside.max())
