"""The numbers a verdict stands on. They are part of every report.

Nothing here is fitted to data: `SEED_THRESHOLDS` are the product's first 0.5 and 0.6, and an assumed
null distribution for detectors that were never calibrated. A calibration replaces the values, per
modality, and sets `calibrated`; the rule that reads them stays.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.domain import Frozen, Modality
from core.evidence import Probability


class Null(Frozen):
    """How the interval scores of an unaltered file are taken to scatter."""

    mean: Probability = 0.35  #: a real file of a usable detector lies a good sd below 0.5
    sd: Annotated[float, Field(gt=0, le=0.5)] = 0.13  #: so that 0.6 is a little under two sd away
    correlation: Annotated[float, Field(ge=0, lt=1)] = 0.5  #: of neighbouring intervals, AR(1)


class ModalityThresholds(Frozen):
    """Operating point of one modality. Scores are fake probabilities of intervals, 0 to 1."""

    real_below: Probability = 0.5  #: a mean below it looks real
    suspicious: Probability = 0.6  #: a mean, run or interval at or above it is suspicious
    decisive: Probability = 0.7  #: from here on a clear other modality no longer makes a conflict
    run_excess: float = 1.5  #: sd a run must clear beyond its size's share to accuse (0.2% of clean files)
    doubt_excess: float = 0.8  #: the same, to take REAL away (5% of clean files)
    null: Null = Null()


class Thresholds(Frozen):
    """Everything the verdict rule compares with."""

    operating_point: str = "seed"
    calibrated: bool = False
    video: ModalityThresholds = ModalityThresholds()
    audio: ModalityThresholds = ModalityThresholds()
    coverage: Probability = 0.5  #: share of face or speech time that a mean must stand on
    shortest_run: Annotated[int, Field(ge=1)] = 2  #: one interval alone never accuses a longer file

    def of(self, modality: Modality) -> ModalityThresholds:
        """The operating point of one modality."""
        return self.video if modality is Modality.VIDEO else self.audio


SEED_THRESHOLDS = Thresholds()
