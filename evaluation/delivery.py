"""The delivery ladder: a file re-encoded, scaled and cropped, and what the detectors say of it then."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from core.domain import Span, Variant
from core.errors import DetectorFailed, MediaError
from core.evidence import Manifest
from core.fusion.stability import MAX_INTERVALS, MAX_SECONDS
from evaluation.measure import OF_THE_FILE
from evaluation.measured import Delivered, Delivery, Measured, trace_of
from evaluation.panel import Panel, Subject
from workers.detectors import remeasure
from workers.media.variants import extract_variant

#: Variants have no sound, so that the ladder is one of pictures.
LOOKING: Final = (Subject.VIDEO, Subject.TRACE)


def deliver(path: Path, measured: Measured, panel: Panel) -> Delivered:
    """Every variant of a part of a file that was measured; nothing where nobody looked at a face."""
    spans = parts(measured)
    looked = panel.video is not None or panel.trace is not None
    variants = Variant if spans and looked else ()
    deliveries = tuple(_delivery(path, spans, variant, panel) for variant in variants)
    return Delivered(
        intervals=tuple(span.index for span in spans),
        deliveries=deliveries,
        lasting=all(one.error is None or one.error in OF_THE_FILE for one in deliveries),
    )


def parts(measured: Measured) -> tuple[Span, ...]:
    """The intervals that are delivered again: those with a score, evenly spread, in the service's own bounds.

    Evenly, not the most suspicious ones: those were chosen for their luck as well, and could only fall.
    """
    scored = [row for row in measured.intervals if row.video.score is not None or trace_of(row) is not None]
    if not scored:
        return ()
    longest = max(row.seconds for row in scored)
    count = max(1, min(len(scored), MAX_INTERVALS, int(MAX_SECONDS / longest)))
    chosen = [scored[n] for n in np.unique(np.linspace(0, len(scored) - 1, count).astype(int)).tolist()]
    return tuple(Span(index=row.index, start=row.start, end=row.end) for row in chosen)


def _delivery(path: Path, spans: Sequence[Span], variant: Variant, panel: Panel) -> Delivery:
    setup = panel.setup
    with tempfile.TemporaryDirectory(prefix="deepdefend-evaluation-", dir=setup.temp_dir) as folder:
        work = Path(folder) / "work"
        work.mkdir(mode=0o700)
        try:
            manifest, _ = extract_variant(
                path,
                work,
                spans,
                variant,
                options=setup.options,
                limits=setup.limits,
                require_sandbox=setup.require_sandbox,
            )
            return _scored(variant, manifest, work, panel)
        except (MediaError, DetectorFailed) as error:
            return Delivery(variant=variant, error=error.code)


def _scored(variant: Variant, manifest: Manifest, work: Path, panel: Panel) -> Delivery:
    found = list(remeasure.unseen(manifest))
    for shard in manifest.crop_shards:
        crops = np.load(work / shard.file, allow_pickle=False)
        found += remeasure.remeasure(manifest, shard, crops, panel.video, panel.trace)
    return Delivery(
        variant=variant,
        video=tuple(one.score for one in found if one.score is not None),
        trace=tuple(one.trace.score for one in found if one.trace and one.trace.score is not None),
    )
