"""What is kept of one file: what the detectors said of it, without pictures."""

from __future__ import annotations

from core.domain import Frozen, Variant
from core.evidence import MediaFacts, Probability
from core.fusion.inputs import Branch, IntervalEvidence


class Delivery(Frozen):
    """One variant of a file: the scores of its intervals."""

    variant: Variant
    error: str | None = None  #: code: it could not be made or scored
    video: tuple[Probability, ...] = ()
    trace: tuple[Probability, ...] = ()


class Delivered(Frozen):
    """The variants of a file, and the intervals of the original that they show."""

    intervals: tuple[int, ...]
    deliveries: tuple[Delivery, ...]
    lasting: bool = True  #: as of Measured


class Measured(Frozen):
    """What was measured of one file: enough to judge it again under another rule."""

    sha256: str
    error: str | None = None  #: code: the file could not be decoded
    detail: str | None = None
    lasting: bool = True  #: another run under the same conditions could only say the same
    facts: MediaFacts | None = None
    intervals: tuple[IntervalEvidence, ...] = ()
    branches: tuple[Branch, ...] = ()  #: what was not scored, and why
    spoke: tuple[str, ...] = ()  #: ids of the detectors that were asked of this file, as reports name them
    statistics: dict[str, float] = {}  #: evaluation.statistics
    delivered: Delivered | None = None  #: null: not asked for


def trace_of(row: IntervalEvidence) -> Probability | None:
    """The score of blend-trace in an interval."""
    return row.video.trace.score if row.video.trace is not None else None
