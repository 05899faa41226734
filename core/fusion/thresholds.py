"""The numbers a verdict stands on. They are part of every report.

`SEED_THRESHOLDS` are the product's first 0.5 and 0.6 with an assumed null distribution, for detectors that
were never calibrated: they honour no operating point. A calibration brings its own, per modality.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Final

from pydantic import Field

from core.domain import Frozen, Modality, OperatingPoint, Options
from core.evidence import DetectorIdentity, LengthCurve, OperatingLimits, Probability, ScoreNull
from core.fusion.scan import Bar

#: A real file of a usable detector lies a good sd below 0.5, so that 0.6 is a little under two sd away.
SEED_NULL: Final = ScoreNull(mean=0.35, sd=0.13, correlation=0.5)
#: What `operating_point` says where none is honoured.
SEED: Final = "seed"
#: Timelines whose intervals differ by more are not the one that a calibration was made with.
SAME_INTERVALS: Final = 0.1
#: Frames an interval that calibrations are made with. Means of fewer scatter more than their limits allow.
CALIBRATED_FRAMES: Final = Options().frames_per_interval


class ModalityThresholds(Frozen):
    """Operating point of one modality. Scores are fake probabilities of intervals, 0 to 1."""

    real_below: Probability = 0.5  #: a mean below it looks real
    suspicious: Probability = 0.6  #: a mean or interval at or above it is suspicious
    decisive: Probability = 0.7  #: from here on a clear other modality no longer makes a conflict
    run_floor: Probability = 0.6  #: least mean of a run that accuses
    run_excess: float = 1.5  #: sd that a run must reach to accuse (seed: 0.2% of clean files)
    doubt_excess: float = 0.8  #: the same, to take REAL away (seed: 5% of clean files)
    by_size: bool = True  #: those lie beyond what the best run of its size reaches by chance
    null: ScoreNull = SEED_NULL
    calibrated: bool = False

    def accusing(self, shortest: int) -> Bar:
        """What a run must reach to accuse."""
        return self._bar(self.run_excess, self.run_floor, shortest)

    @property
    def doubting(self) -> Bar:
        """What a run, of one interval even, must reach to take REAL away."""
        return self._bar(self.doubt_excess, self.real_below, 1)

    def _bar(self, excess: float, floor: float, shortest: int) -> Bar:
        return Bar(null=self.null, excess=excess, by_size=self.by_size, floor=floor, shortest=shortest)


class Thresholds(Frozen):
    """Everything the verdict rule compares with."""

    operating_point: str = SEED  #: the one that is honoured; `seed`: none
    calibrated: bool = False  #: every detector that decides is, for this timeline
    video: ModalityThresholds = ModalityThresholds()
    audio: ModalityThresholds = ModalityThresholds()
    coverage: Probability = 0.5  #: share of face or speech time that a mean must stand on
    shortest_run: Annotated[int, Field(ge=1)] = 2  #: one interval alone never accuses a longer file

    def of(self, modality: Modality) -> ModalityThresholds:
        """The operating point of one modality."""
        return self.video if modality is Modality.VIDEO else self.audio


SEED_THRESHOLDS: Final = Thresholds()


def choose(
    detectors: Iterable[DetectorIdentity],
    operating_point: OperatingPoint,
    *,
    intervals: int,
    interval_seconds: float | None = None,
    frames_per_interval: int | None = None,
) -> Thresholds:
    """Thresholds of a file of so many intervals for the detectors that decide.

    A modality whose detector is not calibrated, or for intervals of another length or (the picture's) of
    more frames, gets the seed's. The operating point is honoured only where all are calibrated; two
    modalities share its rate between them.
    """
    deciding = list(detectors)
    heard = {modality: [one for one in deciding if one.modality is modality] for modality in Modality}
    share = sum(bool(ones) for ones in heard.values())
    chosen = {
        modality: _limits(ones, operating_point, share, interval_seconds) for modality, ones in heard.items()
    }
    if frames_per_interval is not None and frames_per_interval < CALIBRATED_FRAMES:
        chosen[Modality.VIDEO] = None
    honoured = share > 0 and all(chosen[modality] for modality, ones in heard.items() if ones)
    return Thresholds(
        operating_point=operating_point.value if honoured else SEED,
        calibrated=honoured,
        **{modality.value: _resolved(found, intervals) for modality, found in chosen.items() if found},
    )


def at_length(curve: LengthCurve, intervals: int) -> float:
    """A bound for a file of so many intervals: linear in the logarithm, level beyond the curve's ends."""
    knots = [(math.log(length), bound) for length, bound in curve]
    place = math.log(max(intervals, 1))
    for (x0, y0), (x1, y1) in pairwise(knots):
        if x0 <= place < x1:
            return y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    return knots[0][1] if place < knots[0][0] else knots[-1][1]


_Found = tuple[OperatingLimits, ScoreNull]


def _limits(
    detectors: list[DetectorIdentity],
    point: OperatingPoint,
    share: int,
    interval_seconds: float | None,
) -> _Found | None:
    """The limits of a modality's detector; None unless one detector alone decides it and is calibrated."""
    calibration = detectors[0].calibration if len(detectors) == 1 else None
    if calibration is None:
        return None
    made_with = calibration.interval_seconds
    if interval_seconds is not None and abs(interval_seconds - made_with) > SAME_INTERVALS * made_with:
        return None
    for limits in calibration.limits:
        if limits.point is point and limits.share == share:
            return limits, calibration.null
    return None


def _resolved(found: _Found, intervals: int) -> ModalityThresholds:
    limits, null = found
    return ModalityThresholds(
        real_below=limits.real_below,
        suspicious=limits.suspicious,
        decisive=limits.decisive,
        run_floor=limits.run_floor,
        run_excess=at_length(limits.run_excess, intervals),
        doubt_excess=at_length(limits.doubt_excess, intervals),
        by_size=False,
        null=null,
        calibrated=True,
    )
