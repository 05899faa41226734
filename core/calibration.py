"""A detector's calibration: from its scores to probabilities, and to what each operating point means.

Pure: no file, no array library. `evaluation.fitting` makes one, `workers.detectors.calibrations` keeps it
beside the weights it belongs to, the detector base applies it to every answer it gives.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from core.domain import Frozen, Modality
from core.evidence import CalibrationSummary, OperatingLimits, Probability, ScoreNull

#: A score nearer to 0 or 1 counts as this near: float32 softmax answers saturate there.
NEAREST: Final = 1e-6
Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class Platt(Frozen):
    """1 / (1 + exp(-(slope x + offset))) of the score's log-odds x (Platt 1999)."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[float, Field(gt=0)]
    offset: float

    def __call__(self, score: float) -> float:
        """The probability of one score."""
        return sigmoid(self.slope * log_odds(score) + self.offset)


class Isotonic(Frozen):
    """Rising lines between knots (score, probability), level outside (Zadrozny and Elkan 2002)."""

    kind: Literal["isotonic"] = "isotonic"
    knots: Annotated[tuple[tuple[Probability, Probability], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rising(self) -> Isotonic:
        scores, values = zip(*self.knots, strict=True)
        if list(scores) != sorted(set(scores)) or list(values) != sorted(values):
            raise ValueError("knots must rise")
        return self

    def __call__(self, score: float) -> float:
        """The probability of one score."""
        right = bisect_right(self.knots, (score, math.inf))
        if right == 0:
            return self.knots[0][1]
        if right == len(self.knots):
            return self.knots[-1][1]
        (x0, y0), (x1, y1) = self.knots[right - 1], self.knots[right]
        return min(max(y0 + (y1 - y0) * (score - x0) / (x1 - x0), y0), y1)


class HeldOutError(Frozen):
    """Errors on files that the calibration was not fitted on: folds by group, or by file with one group."""

    folds_by: Literal["group", "file"]
    folds: int
    auc: Probability  #: of interval scores; calibrating moves it only between folds
    brier: Probability  #: mean squared error of the probabilities, each class weighing half
    brier_before: Probability  #: the same of the raw scores
    log_loss: Annotated[float, Field(ge=0)]
    log_loss_before: Annotated[float, Field(ge=0)]
    calibration_error: Probability  #: expected calibration error over ten bins of equal count
    calibration_error_before: Probability


class Calibration(Frozen):
    """One detector's calibration. It holds for the weights of `weights` and for no others."""

    detector: str
    modality: Modality
    weights: Digest  #: `DetectorIdentity.digest` of the checkpoint it was measured with
    curve: Annotated[Platt | Isotonic, Field(discriminator="kind")]
    floor: Probability  #: no probability lies outside these: n files support nothing beyond 1 in n
    ceiling: Probability
    real_files: int
    fake_files: int
    real_intervals: int
    fake_intervals: int
    interval_seconds: float
    made_at: datetime
    manifest: Digest  #: of the labelled list it was made from
    null: ScoreNull  #: of calibrated interval scores of real files
    limits: tuple[OperatingLimits, ...]
    held_out: HeldOutError

    def apply(self, scores: Iterable[float]) -> list[float]:
        """Scores in [0, 1] to probabilities in [floor, ceiling]; never reorders, may tie."""
        return [min(max(self.curve(score), self.floor), self.ceiling) for score in scores]

    @property
    def digest(self) -> str:
        """`sha256:` of everything in it."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def summary(self) -> CalibrationSummary:
        """What reports and fusion need of it."""
        return CalibrationSummary(
            kind=self.curve.kind,
            real_files=self.real_files,
            fake_files=self.fake_files,
            intervals=self.real_intervals + self.fake_intervals,
            made_at=self.made_at,
            digest=self.digest,
            interval_seconds=self.interval_seconds,
            null=self.null,
            limits=self.limits,
        )


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), finite everywhere: p is taken no nearer to 0 or 1 than NEAREST."""
    inside = min(max(probability, NEAREST), 1 - NEAREST)
    return math.log(inside / (1 - inside))


def sigmoid(value: float) -> float:
    """The probability of log-odds, without overflow."""
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))
