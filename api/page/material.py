"""What a page is made of, read at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from core.domain import Modality
from core.evidence import Frame, LipSync
from core.fusion.inputs import IntervalEvidence
from core.reading import at, number


@dataclass(frozen=True)
class Still:
    """The picture of an interval."""

    key: str  #: object key of the JPEG
    frame: int | None  #: `Frame.n`


@dataclass(frozen=True)
class Seen:
    """One face through the video."""

    id: int
    start: float  #: seconds
    end: float
    frames: int
    score: float | None
    thumbnail: str | None  #: object key
    lips: LipSync | None


@dataclass(frozen=True)
class Material:
    """An analysis with a report. `pictures` holds the bytes of those object keys that could be read."""

    analysis_id: UUID
    filename: str | None
    source: str | None  #: the address it was fetched from, without what may be a password
    size_bytes: int | None
    metadata: Mapping[str, Any]
    report: Mapping[str, Any]
    intervals: tuple[IntervalEvidence, ...]
    faces: tuple[Seen, ...] = ()
    stills: Mapping[int, Still] = field(default_factory=dict)  #: by interval
    frames: Mapping[int, tuple[Frame, ...]] = field(default_factory=dict)  #: of intervals that are shown
    spectrogram: str | None = None  #: object key
    erased: bool = False  #: file and pictures are gone, as retention has it
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def duration(self) -> float:
        """Seconds that the timeline spans; never 0."""
        measured = number(at(self.report, "video_info", "duration")) or 0.0
        return max(measured, *(row.end for row in self.intervals), 0.001)

    def threshold(self, modality: Modality, name: str) -> float | None:
        """`suspicious` or `real_below` of a modality, as the verdict had it."""
        return number(at(self.report, "provenance", "thresholds", modality.value, name))

    def is_suspicious(self, row: IntervalEvidence, modality: Modality) -> bool:
        """Whether one modality of one interval reaches `suspicious`."""
        found, limit = row.score(modality), self.threshold(modality, "suspicious")
        return found is not None and limit is not None and found >= limit
