"""What the manipulation-trace detector adds to the findings of a shard; it informs, it never scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from core.config import ModelSettings
from core.domain import Modality, Reason
from core.errors import DetectorUnavailable
from core.evidence import CropShard, Manifest, TraceFinding, VideoFinding
from workers.detectors import blend_trace
from workers.detectors.base import Crops, Scores
from workers.detectors.blend_trace import BlendTrace
from workers.detectors.look import INTERVALS_EXPLAINED
from workers.detectors.registry import AVAILABLE, REFUSED
from workers.detectors.sight import Sight, Suspect, by_track, sights, suspect

#: Said in a status beside the detectors that score: this one does not.
ROLE: Final = "trace"


@dataclass(frozen=True)
class Traced:
    """Findings with their traces, and the faces to show."""

    findings: tuple[VideoFinding, ...]
    suspects: list[Suspect]  #: of intervals with a trace, the strongest first, at most INTERVALS_EXPLAINED


def trace(
    findings: Sequence[VideoFinding],
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: BlendTrace,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> Traced:
    """Add a TraceFinding to each interval of the shard.

    Its score is the strongest track's mean over the crops that the detector can speak about; where there is
    none, `out_of_domain`, and where there is no face to score, the reason for that.
    Raises DetectorFailed, and ValueError when the crops are not those of the shard.
    """
    found = sights(manifest, shard)
    scores, within = detector.traces(crops, _sizes(found, len(crops)), checkpoint=checkpoint)
    known = {sight.index: _within(sight, within) for sight in found}
    told = {sight.index: _told(sight, known[sight.index], scores, detector) for sight in found}
    marked = sorted(
        (one for one in told.items() if one[1].score is not None and one[1].score >= detector.threshold),
        key=lambda one: -(one[1].score or 0),
    )
    return Traced(
        findings=tuple(one.model_copy(update={"trace": told[one.index]}) for one in findings),
        suspects=[suspect(known[index], one.track, scores) for index, one in marked[:INTERVALS_EXPLAINED]],
    )


def status(settings: ModelSettings) -> dict[str, Any] | None:
    """As `registry.status`, with its `role`; None where it is switched off."""
    if settings.blend_trace == "off":
        return None
    base = {"id": blend_trace.ID, "modality": Modality.VIDEO.value, "role": ROLE, "test_only": False}
    nothing = dict.fromkeys(("code", "detail", "mend", "version", "digest", "fake_label"))
    try:
        found = blend_trace.located(blend_trace.WEIGHTS)
    except DetectorUnavailable as error:
        return {**base, **nothing, "state": REFUSED, "code": error.code, "detail": error.detail}
    told = {"version": found.version, "digest": found.digest, "fake_label": found.fake.label}
    return {**base, **nothing, **told, "state": AVAILABLE}


def _sizes(found: Sequence[Sight], rows: int) -> Scores:
    """Shorter side of the box of each crop, in pixels of its frame; 0 for one that is not scored."""
    sizes = np.zeros(rows, np.float32)
    for sight in found:
        for one in sight.seen:
            sizes[one.row] = min(one.box[2:])
    return sizes


def _within(sight: Sight, within: np.ndarray[Any, np.dtype[np.bool_]]) -> Sight:
    """The interval with the faces alone that the detector can speak about."""
    return replace(sight, seen=tuple(one for one in sight.seen if within[one.row]))


def _told(sight: Sight, known: Sight, scores: Scores, detector: BlendTrace) -> TraceFinding:
    tracks = by_track(known.seen, scores)
    return TraceFinding(
        detector=detector.identity.id,
        threshold=detector.threshold,
        score=tracks[0].score if tracks else None,
        reason=None if tracks else sight.reason or Reason.OUT_OF_DOMAIN,
        track=tracks[0].track if tracks else None,
    )
