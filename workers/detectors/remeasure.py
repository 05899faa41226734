"""The scores of a variant's faces, without the pictures and explanations that the original gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.domain import Reason
from core.evidence import CropShard, Frame, Manifest, TraceFinding, VideoFinding
from workers.detectors.base import Crops, FrameDetector

if TYPE_CHECKING:
    from workers.detectors.blend_trace import BlendTrace

#: Track, row of its crop in the shard, shorter side of its box in pixels.
_Seen = tuple[int, int, float]


def remeasure(
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: FrameDetector | None,
    trace: BlendTrace | None,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[VideoFinding, ...]:
    """One finding for each interval of the shard, in its order: the strongest track's mean, as `look` has it.

    A detector that is None gives nothing but a reason. `checkpoint` may raise to stop. Raises DetectorFailed.
    """
    sizes = np.zeros(len(crops), np.float64)
    seen = _seen(manifest, shard)
    for track_rows in seen.values():
        for _, row, size in track_rows:
            sizes[row] = size
    scores = None if detector is None else detector.scores(crops, checkpoint=checkpoint)
    traces = None if trace is None else trace.traces(crops, sizes, checkpoint=checkpoint)
    findings = []
    for index in shard.intervals:
        here = seen[index]
        score = None if scores is None else _strongest((track, float(scores[row])) for track, row, _ in here)
        told = None
        if trace is not None and traces is not None:
            values, counts = traces
            told = _trace(trace, _strongest((t, float(values[row])) for t, row, _ in here if counts[row]))
        reason = None if score is not None else Reason.NO_DETECTOR_WEIGHTS
        findings.append(VideoFinding(index=index, score=score, reason=reason, trace=told))
    return tuple(findings)


def unseen(manifest: Manifest) -> tuple[VideoFinding, ...]:
    """A finding with its reason for each interval that has no face to score."""
    scored = {index for shard in manifest.crop_shards for index in shard.intervals}
    frames: dict[int, list[Frame]] = defaultdict(list)
    for frame in manifest.frames:
        frames[frame.interval].append(frame)
    return tuple(
        VideoFinding(index=span.index, score=None, reason=manifest.unseen(frames[span.index]))
        for span in manifest.spans
        if span.index not in scored
    )


def _seen(manifest: Manifest, shard: CropShard) -> dict[int, Sequence[_Seen]]:
    """The scorable faces of each interval whose crops are in this shard."""
    found: dict[int, list[_Seen]] = {index: [] for index in shard.intervals}
    for frame in manifest.frames:
        for face in frame.faces:
            if face.shard == shard.shard and face.row is not None:
                found[frame.interval].append((face.track, face.row, min(face.box[2:])))
    return {**found}


def _strongest(pairs: Iterable[tuple[int, float]]) -> float | None:
    """The highest mean of a track; None without any."""
    tracks: dict[int, list[float]] = defaultdict(list)
    for track, score in pairs:
        tracks[track].append(score)
    return max((round(float(np.mean(scores)), 6) for scores in tracks.values()), default=None)


def _trace(trace: BlendTrace, score: float | None) -> TraceFinding:
    return TraceFinding(
        detector=trace.identity.id,
        threshold=trace.threshold,
        score=score,
        reason=Reason.OUT_OF_DOMAIN if score is None else None,
    )
