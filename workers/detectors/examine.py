"""All that is asked of one shard of crops: scores, regions, traces, and pictures of what is suspicious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.evidence import CropShard, Manifest, VideoFinding
from workers.detectors import heatmaps, traces
from workers.detectors.base import Crops, FrameDetector
from workers.detectors.blend_trace import BlendTrace
from workers.detectors.heatmaps import Portrait
from workers.detectors.look import look, suspects


@dataclass(frozen=True)
class Examined:
    """What the detectors say of a shard."""

    findings: tuple[VideoFinding, ...]  #: without their `pictures`, which are not stored yet
    portraits: tuple[Portrait, ...]  #: of the detector that decides first, then of the trace detector


def examine(
    manifest: Manifest,
    shard: CropShard,
    crops: Crops,
    detector: FrameDetector | None,
    trace: BlendTrace | None,
    *,
    checkpoint: Callable[[], None] | None = None,
) -> Examined:
    """Ask both, where they are there. Raises what `look` raises, and what `checkpoint` does."""
    findings = look(manifest, shard, crops, detector, checkpoint=checkpoint)
    portraits: list[Portrait] = []
    if detector is not None:
        shown = suspects(findings, manifest, shard)
        portraits += heatmaps.portraits(shown, crops, detector, checkpoint=checkpoint)
    if trace is not None:
        traced = traces.trace(findings, manifest, shard, crops, trace, checkpoint=checkpoint)
        findings = traced.findings
        portraits += heatmaps.portraits(traced.suspects, crops, trace, checkpoint=checkpoint)
    return Examined(findings, tuple(portraits))
