"""The verdict with everything it was made from: what narrators explain and reports show."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from core.domain import Frozen, Modality, OperatingPoint, Reason, Verdict
from core.evidence import DetectorIdentity, MediaFacts, Probability
from core.fusion.aggregate import ModalityEvidence
from core.fusion.causes import Cause
from core.fusion.inputs import IntervalEvidence
from core.fusion.thresholds import Thresholds
from core.fusion.trace import TraceEvidence


class Standing(StrEnum):
    """Where one modality stands, from innocent to accused."""

    ABSENT = "absent"  #: nothing there that could be scored
    CLEAR = "clear"  #: looks real, on enough coverage
    UNCLEAR = "unclear"  #: says too little, or neither
    NEAR = "near"  #: suspicious, but below `decisive`
    FAKE = "fake"  #: suspicious beyond `decisive`


class Judgement(Frozen):
    """A verdict, its figures and its causes. Nothing in it is prose."""

    verdict: Verdict
    confidence: Annotated[float, Field(ge=0, le=100)] | None
    combined_score: Probability | None
    video: ModalityEvidence
    audio: ModalityEvidence
    trace: TraceEvidence | None = None  #: null: its detector never looked
    standings: dict[Modality, Standing]
    causes: tuple[Cause, ...]
    operating_point: OperatingPoint  #: as asked; `thresholds` say whether it is honoured
    thresholds: Thresholds
    facts: MediaFacts
    detectors: tuple[DetectorIdentity, ...]
    intervals: tuple[IntervalEvidence, ...]  #: in timeline order

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The bare reasons, the decisive ones first, each once."""
        return tuple(dict.fromkeys(cause.reason for cause in self.causes))

    @property
    def calibrated(self) -> bool:
        """Whether every detector that decides was calibrated, so that the operating point is honoured."""
        return self.thresholds.calibrated

    @property
    def test_only(self) -> bool:
        """A detector made for tests took part: the verdict means nothing."""
        return any(detector.test_only for detector in self.detectors)

    @property
    def suspicious(self) -> tuple[IntervalEvidence, ...]:
        """Intervals with a score at or above `suspicious`, in timeline order."""
        return tuple(row for row in self.intervals if any(self.is_suspicious(row, m) for m in Modality))

    def is_suspicious(self, row: IntervalEvidence, modality: Modality) -> bool:
        """Whether one modality of one interval reaches its `suspicious`."""
        score = row.score(modality)
        return score is not None and score >= self.thresholds.of(modality).suspicious

    def of(self, modality: Modality) -> ModalityEvidence:
        """The summary of one modality."""
        return self.video if modality is Modality.VIDEO else self.audio
