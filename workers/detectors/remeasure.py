"""The scores of a variant's faces, without the pictures and explanations that the original gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from core.domain import Reason
from core.evidence import CropShard, Frame, Manifest, VideoFinding
from workers.detectors import traces
from workers.detectors.base import Crops, FrameDetector
from workers.detectors.blend_trace import BlendTrace
from workers.detectors.sight import Sight, by_track, sights


def remeasure(
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: FrameDetector | None,
    trace: BlendTrace | None,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> tuple[VideoFinding, ...]:
    """One finding for each interval of the shard, in its order: scores as `look` and `traces` have them.

    Where there is no detector the reason is `no_detector_weights`. `checkpoint` may raise to stop.
    Raises DetectorFailed.
    """
    scores = None if detector is None else detector.scores(crops, checkpoint=checkpoint)

    def finding(sight: Sight) -> VideoFinding:
        if scores is None or sight.reason is not None:
            reason = sight.reason or Reason.NO_DETECTOR_WEIGHTS
            return VideoFinding(index=sight.index, score=None, reason=reason)
        return VideoFinding(index=sight.index, score=by_track(sight.seen, scores)[0].score, reason=None)

    findings = tuple(finding(sight) for sight in sights(manifest, shard))
    if trace is None:
        return findings
    return traces.trace(findings, manifest, shard, crops, trace, checkpoint=checkpoint).findings


def unseen(manifest: Manifest) -> tuple[VideoFinding, ...]:
    """A finding with its reason for each interval that is in no shard: it has no face to score."""
    sharded = {index for shard in manifest.crop_shards for index in shard.intervals}
    frames: dict[int, list[Frame]] = defaultdict(list)
    for frame in manifest.frames:
        frames[frame.interval].append(frame)
    return tuple(
        VideoFinding(index=span.index, score=None, reason=manifest.unseen(frames[span.index]))
        for span in manifest.spans
        if span.index not in sharded
    )
